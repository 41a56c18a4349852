"""Bringing a finished result in: upload, complete, and what each refusal means."""

from __future__ import annotations

from typing import Final

from pithead.agent.line import Line
from pithead.agent.spool import Finished, Spool
from pithead.client import ApiError, AsyncMinerClient, Conflict, Invalid, Unauthorized
from pithead.wire.miners import Completed

#: Uploads of one result that may arrive as something else before that is taken for a fault of the line.
_UPLOADS: Final = 3


class NotTaken(Exception):
    """The coordinator does not take the result, and never will; the message is its reason."""


async def deliver(client: AsyncMinerClient, line: Line, spool: Spool, finished: Finished) -> Completed:
    """Upload and complete, for as long as it takes. Raises `NotTaken`, `Unauthorized`.

    Both may be repeated, so a lost answer costs nothing. A late result is taken while nobody else has the job: only the
    coordinator can tell, so it is asked rather than guessed at.
    """
    job_id, token = finished.job_id, finished.lease_token
    for attempt in range(1, _UPLOADS + 1):
        try:
            await line.insist(lambda: client.upload(job_id, spool.payload(finished), token))
        except Conflict:
            # Perhaps it was completed already, and only the answer was lost: completing again tells.
            pass
        except Unauthorized:
            raise
        except ApiError as error:
            raise NotTaken(error.detail) from None
        except OSError as error:
            raise NotTaken(f"the spooled bytes cannot be read: {error}") from None
        try:
            return await line.deliver(lambda: client.complete(job_id, finished.result_hash, finished.metrics, token))
        except Unauthorized:
            raise
        except ApiError as error:
            # The bytes are not there, or arrived as others: send them once more.
            again = isinstance(error, Invalid) or error.problem.type.endswith("/result-missing")
            if not again or attempt == _UPLOADS:
                raise NotTaken(str(error)) from None
    raise AssertionError("the last attempt returns or raises")
