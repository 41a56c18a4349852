"""The Miner API. The shapes of the contract's fixed part carry exactly its field names; keys beside them are ours."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pithead.wire.base import (
    Amount,
    Answer,
    Destination,
    GpuCount,
    Instant,
    Line,
    Model,
    Name,
    Number,
    OpenRequest,
    PriceIn,
    ResultHash,
    Slug,
)

MinerStatus = Literal["pending", "active", "draining", "suspended", "offline", "retired"]
JobStatus = Literal["queued", "assigned", "running", "uploading", "completed", "failed", "cancelled", "expired"]
#: Why an attempt failed. `bad_input` and `rejected` end the job, since another miner would fail likewise; the rest may retry.
FailureKind = Literal[
    "error",
    "bad_input",
    "rejected",
    "timeout",
    "out_of_memory",
    "over_limit",
    "runner_missing",
    "sandbox",
    "model_missing",
]
MaxConcurrent = Annotated[int, Meta(ge=1, le=10_000)]
Models = Annotated[list[Model], Meta(max_length=1000)]
Speeds = Annotated[
    dict[Model, Annotated[float, Meta(gt=0, le=1e9)]],
    Meta(max_length=1000, description="Tokens a second that the miner measured, by model."),
]


class RegisterMiner(OpenRequest):
    """A machine and its price."""

    name: Name
    #: The type of its GPUs, e.g. `v100`; `cpu` for a machine without one.
    gpu_type: Slug
    #: How many GPUs; for `cpu`, how many slots.
    gpu_count: GpuCount
    location: Line
    #: Currency units per GPU and hour.
    price_per_hour: PriceIn
    #: How many jobs it takes at a time.
    max_concurrent: MaxConcurrent
    #: The models it has. Absent: it takes any.
    models: Models | None = None
    #: What it measured of itself; jobs whose clients name no `estimated_time` are estimated by it.
    speeds: Speeds | None = None
    #: Needed where the coordinator's `enrollment` is `token`.
    enrollment_token: str | None = None


class Registered(Answer):
    """The new miner. Its key is shown this once."""

    miner_id: str
    api_key: str
    status: MinerStatus


class UpdateMiner(OpenRequest):
    """Any subset of the registration; what is absent stays."""

    name: Name | UnsetType = UNSET
    gpu_type: Slug | UnsetType = UNSET
    gpu_count: GpuCount | UnsetType = UNSET
    location: Line | UnsetType = UNSET
    price_per_hour: PriceIn | UnsetType = UNSET
    max_concurrent: MaxConcurrent | UnsetType = UNSET
    #: `null`: takes any model again.
    models: Models | None | UnsetType = UNSET
    #: True: finish what is held and take nothing new. False: take jobs again.
    draining: bool | UnsetType = UNSET
    #: In place of those that it told before.
    speeds: Speeds | UnsetType = UNSET
    #: Where payouts are sent. Changing it does not redirect a payout that was requested before.
    payout_destination: Destination | UnsetType = UNSET


class Limits(Answer):
    """A miner's own limits; `null` where the coordinator's setting holds, 0 for none."""

    requests_per_minute: int | None
    job_operations_per_minute: int | None


class MinerView(Answer):
    """A miner as it now stands."""

    miner_id: str
    name: str
    gpu_type: str
    gpu_count: int
    location: str
    price_per_hour: Amount
    max_concurrent: int
    models: list[str] | None
    status: MinerStatus
    created_at: Instant
    #: The last heartbeat; `null` before the first.
    last_seen_at: Instant | None
    limits: Limits
    #: Where payouts are sent; only the miner and the operator see it.
    payout_destination: str


class Heartbeat(OpenRequest):
    """All optional: an empty body is a heartbeat too."""

    #: The jobs whose leases to renew. Absent or empty: all that the miner holds.
    jobs: Annotated[list[str], Meta(max_length=10_000)] = msgspec.field(default_factory=list)
    #: Whatever the miner wants to report of itself; an object.
    telemetry: dict[str, Any] = msgspec.field(default_factory=dict)


class Stop(Answer):
    """A job that the miner no longer holds and must stop working on."""

    job_id: str
    reason: Literal["cancelled", "expired", "lost"]


class Orders(Answer):
    """What a miner would hear of with its next heartbeat, at once."""

    #: The miner's state, in the coordinator's eyes.
    miner_status: MinerStatus
    #: Jobs to stop at once. One that the miner took anew since it asked is its own.
    stop: list[Stop]
    #: Ask with it as `?after=`, and the answer is held until there is something else to hear.
    version: str


class LeaseView(Answer):
    """A lease, as it stands after this heartbeat."""

    job_id: str
    #: Seconds until it lapses unless it is renewed. A length of time: no clocks need agree.
    expires_in: Number


class HeartbeatAnswer(Answer):
    """How the miner stands."""

    status: Literal["ok"]
    #: How many jobs it holds.
    jobs_assigned: int
    #: How many queued jobs it could take now.
    queue_length: int
    #: Ours: the miner's state, in the coordinator's eyes.
    miner_status: MinerStatus
    #: Ours: jobs to stop at once.
    stop: list[Stop]
    #: Ours: the leases that it holds.
    leases: list[LeaseView]


class Offer(Answer):
    """A queued job that fits the miner."""

    job_id: str
    model: str
    gpu_type: str
    gpu_count: int
    #: Seconds, as the client expects.
    estimated_time: Number
    #: What completing it pays, in full.
    price: Amount
    priority: int
    require_result: bool
    #: Ours: whose job it is. Opaque; the same for every job of one client.
    client_id: str


class Available(Answer):
    """The jobs that fit, the best first: by priority, then the oldest."""

    jobs: list[Offer]


class JobFile(Answer):
    """A file that a job needs."""

    #: What the job calls it: letters, digits, `.`, `_` and `-`, no path.
    name: str
    #: SHA-256 of its bytes, in hex: what it is fetched by.
    sha256: str
    #: Its bytes.
    size: int


class JobLimits(Answer, omit_defaults=True):
    """What a job may use; of what is absent, what the miner's owner allows. No job gets more than its miner's owner allows."""

    #: Seconds of one run, from its start.
    wall_clock_seconds: Number | None = None
    #: Memory of all its processes together.
    memory_bytes: int | None = None
    #: What it may write to its scratch folder.
    scratch_bytes: int | None = None
    #: Its result.
    output_bytes: int | None = None
    #: Processes and threads at a time.
    pids: int | None = None


class Assignment(Answer, omit_defaults=True):
    """A job in the hands of one miner. Asking again gives the same."""

    job_id: str
    status: JobStatus
    model: str
    #: Ours: whose job it is. Opaque; the same for every job of one client.
    client_id: str
    #: As the client wrote it.
    input: msgspec.Raw
    gpu_type: str
    gpu_count: int
    estimated_time: Number
    price: Amount
    require_result: bool
    #: Which try this is, from 1.
    attempt: int
    #: Send it as `Lease-Token` with every call about this job: a call under an older lease is then refused.
    lease_token: str
    lease_expires_at: Instant
    #: Seconds until the lease lapses unless a heartbeat renews it.
    lease_expires_in: Number
    #: Seconds until this attempt ends whatever is renewed.
    attempt_expires_in: Number
    #: Ours: files to fetch for it; absent where there are none.
    input_files: list[JobFile] = msgspec.field(default_factory=list)
    #: Ours: what the job is to be held to; absent where its client says nothing.
    limits: JobLimits | None = None
    #: Ours: the span that submitted it (W3C Trace Context); absent where the coordinator makes no traces.
    traceparent: str | None = None


class Metrics(OpenRequest):
    """What the miner measured. For show and for statistics; nothing is paid by it."""

    execution_time_seconds: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    gpu_time_seconds: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    prompt_tokens: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    completion_tokens: Annotated[int, Meta(ge=0, le=2**53)] | None = None


class Complete(OpenRequest):
    """The work is done."""

    result_hash: ResultHash
    metrics: Metrics = msgspec.field(default_factory=Metrics)


class ReceiptBatch(Answer):
    """Where a receipt stands among those that were signed at once: the way from it to the root that is signed."""

    #: Its place among them, from 0 on.
    index: int
    #: How many they are.
    size: int
    #: The hashes beside the way from the receipt to the root (RFC 9162, section 2.1.3), base64.
    path: list[str]


class Receipt(Answer):
    """What the coordinator vouches for: who delivered what for which pay, under its signature."""

    receipt_id: str
    job_id: str
    miner_id: str
    attempt: int
    result_hash: str
    amount: Amount
    completed_at: Instant
    #: Which of the coordinator's keys signed: the first 16 hex digits of the SHA-256 of the public key.
    key_id: str
    #: Ed25519 over the canonical bytes (docs/reference/receipts.md), base64; with a `batch`, over the root that it leads to.
    signature: str
    #: Left out where the receipt was signed alone.
    batch: ReceiptBatch | UnsetType = UNSET


class ReceiptKey(Answer):
    """What receipts are checked with."""

    key_id: str
    algorithm: Literal["Ed25519"]
    #: The 32 bytes of the public key, base64.
    public_key: str


class ReceiptKeys(Answer):
    """The keys with which this coordinator signs."""

    keys: list[ReceiptKey]


class Completed(Answer):
    """The job's outcome. Completing again with the same hash is answered with the same; its receipt may be signed anew."""

    job_id: str
    status: Literal["completed"]
    #: What the miner was paid for it.
    earned: Amount
    receipt: Receipt


class Fail(OpenRequest):
    """The work could not be done."""

    reason: Annotated[str, Meta(max_length=2000)] = ""
    kind: FailureKind = "error"


class Returned(Answer):
    """Where the job stands after a failure or a hand-back."""

    job_id: str
    status: JobStatus


class Progress(OpenRequest):
    """How far the work is. The first report makes the job `running`."""

    #: 0 to 1; `null` if unknown.
    fraction: Annotated[float, Meta(ge=0, le=1)] | None = None
    message: Line = ""
    #: A piece of what the work brought forth so far, for those who watch. What counts is the result.
    output: Annotated[str, Meta(max_length=65_536)] = ""
    #: How many characters (code points) came before it. Telling a piece again changes nothing.
    output_offset: Annotated[int, Meta(ge=0, le=2**40)] = 0


class Progressed(Answer):
    """The job's state after the report."""

    job_id: str
    status: JobStatus
    #: With `output`: how many characters are there now. Less than were told: tell it from there on. At 262,144 no more are kept.
    output_size: int | UnsetType = UNSET


class Uploaded(Answer):
    """What the coordinator holds, hashed by itself as the bytes arrived."""

    job_id: str
    result_hash: str
    size: int


class UploadState(Answer):
    """How far the upload of a result is. The `Upload-Offset` header says the same."""

    job_id: str
    #: From which byte on to send: what came before an upload broke off is kept; 0 to send all of it.
    upload_offset: int
    #: Whether a whole result is there, which `complete` can name.
    complete: bool
    #: Its hash.
    result_hash: str | None = None


class Stats(Answer):
    """What a miner has done."""

    #: Completed + failed + lapsed.
    total_jobs: int
    #: Completed / total, as a fraction; 0 with none.
    success_rate: Number
    #: Seconds between accept and complete; 0 with none.
    average_completion_time: Number
    earnings: Amount
    #: Earnings over the GPU-hours that its completed jobs reported, each bounded by its wall time; 0 with none.
    earnings_per_gpu_hour: Number
