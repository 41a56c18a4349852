"""The Python SDK.

    from pithead.client import Client

    with Client("http://127.0.0.1:8080", "key_…") as client:
        job = client.submit("gpt2", {"prompt": "Hello"}, price="0.05")
        if client.wait(job.job_id).status == "completed":
            print(client.result(job.job_id))

`AsyncClient` and `AsyncMinerClient` are the same, awaited. The shapes are those of `pithead.wire`.
"""

from pithead.client.admin import AdminClient
from pithead.client.aio import AsyncClient, AsyncMinerClient
from pithead.client.calls import JobOptions, MinerOptions, Price
from pithead.client.errors import (
    ApiError,
    BadAnswer,
    Conflict,
    Corrupted,
    FileCorrupted,
    Forbidden,
    Gone,
    Invalid,
    JobFailed,
    Misused,
    NotFound,
    PaymentRequired,
    PitheadError,
    RateLimited,
    Unauthorized,
    Unreachable,
    WaitTimeout,
)
from pithead.client.executor import PitheadExecutor
from pithead.client.files import Files, Rest
from pithead.client.follow import AccountNews, JobNews, StreamEvent
from pithead.client.mapping import Mapped
from pithead.client.receipts import verify as verify_receipt
from pithead.client.sync import Client, MinerClient
from pithead.client.watch import TERMINAL

__all__ = [
    "TERMINAL",
    "AccountNews",
    "AdminClient",
    "ApiError",
    "AsyncClient",
    "AsyncMinerClient",
    "BadAnswer",
    "Client",
    "Conflict",
    "Corrupted",
    "FileCorrupted",
    "Files",
    "Forbidden",
    "Gone",
    "Invalid",
    "JobFailed",
    "JobNews",
    "JobOptions",
    "Mapped",
    "MinerClient",
    "MinerOptions",
    "Misused",
    "NotFound",
    "PaymentRequired",
    "PitheadError",
    "PitheadExecutor",
    "Price",
    "RateLimited",
    "Rest",
    "StreamEvent",
    "Unauthorized",
    "Unreachable",
    "WaitTimeout",
    "verify_receipt",
]
