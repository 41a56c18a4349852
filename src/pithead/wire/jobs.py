"""The client's side: jobs, and the client's own account."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pithead.wire.base import Amount, Answer, GpuCount, Instant, Model, Number, PriceIn, Seconds, Slug, StrictRequest
from pithead.wire.miners import FailureKind, JobFile, JobLimits, JobStatus

#: No path leads anywhere with such a name, on any system.
_FILE = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$(?!\n)"
#: The most that is meant by a number of bytes: exact in a JSON double.
_MOST = 2**53

Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)", description="SHA-256 of a file's bytes, 64 hex digits.")]
FileName = Annotated[
    str, Meta(pattern=_FILE, description="What a job calls a file: letters, digits, `.`, `_` and `-`, up to 100.")
]
Bytes = Annotated[int, Meta(ge=1, le=_MOST, description="A number of bytes.")]


class InputFile(StrictRequest):
    """A file of this account that a job needs."""

    name: FileName
    #: The file must have been uploaded before: `PUT /v1/files/{sha256}`.
    sha256: Sha256


class AskedLimits(StrictRequest, omit_defaults=True):
    """What a job is to be held to. A miner whose owner gives less than is asked for fails it with `over_limit`, and another may try; of what is absent it gets what the owner gives."""

    #: Seconds of one run, from its start.
    wall_clock_seconds: Seconds | None = None
    #: Memory of all its processes together, where the miner counts it.
    memory_bytes: Bytes | None = None
    #: What it may write to its scratch folder.
    scratch_bytes: Bytes | None = None
    #: Its result.
    output_bytes: Bytes | None = None
    #: Processes and threads at a time.
    pids: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None


class SubmitJob(StrictRequest):
    """A piece of work and what it pays."""

    model: Model
    #: Any JSON; handed to the miner as it is.
    input: msgspec.Raw
    #: What completing it pays, in full. It is set aside from the client's balance now.
    price: PriceIn
    #: The type of GPU it needs, or `any`.
    gpu_type: Slug = "any"
    gpu_count: GpuCount = 1
    #: Seconds the work should take on the machine asked for. A miner is offered the job when `price` covers this time at its own price. Absent: estimated from `max_tokens` of the input and what miners measured with the model; 60 where none did.
    estimated_time: Seconds | None = None
    #: Higher goes first.
    priority: Annotated[int, Meta(ge=-1000, le=1000)] = 0
    #: Seconds from now in which the job must be completed; after that it expires and the money goes back. Absent: the setting `jobs.timeout`.
    timeout: Seconds | None = None
    #: Seconds that one attempt may take from its accept, however often its lease is renewed. Absent: what is left of `timeout`.
    attempt_timeout: Seconds | None = None
    #: How many attempts may fail or lapse before the job fails. Absent: the setting `jobs.max_attempts`.
    max_attempts: Annotated[int, Meta(ge=1, le=100)] | None = None
    #: True: the bytes of the result must have arrived before the job can be completed. False: its hash is enough.
    require_result: bool = False
    #: Files that the miner fetches for it. Kinds of work that make no use of files refuse them.
    input_files: Annotated[list[InputFile], Meta(max_length=100)] | UnsetType = UNSET
    limits: AskedLimits | None | UnsetType = UNSET


class Submitted(Answer):
    """The job is durably queued and its price set aside."""

    job_id: str
    status: JobStatus
    #: Where no miner that is registered fits the job: why. It waits until one does.
    warning: str | None = None


class SubmitBatch(StrictRequest):
    """Several jobs, all or none."""

    jobs: Annotated[list[SubmitJob], Meta(min_length=1, max_length=1000)]


class SubmittedBatch(Answer):
    """In the order of the request."""

    jobs: list[Submitted]


class Failure(Answer):
    """Why a job failed."""

    #: A miner's word, or ours: `lapsed` when the last lease ran out.
    kind: FailureKind | str
    reason: str


class JobMetrics(Answer):
    """What the miner reported with the result."""

    execution_time_seconds: Number | None
    gpu_time_seconds: Number | None
    prompt_tokens: int | None
    completion_tokens: int | None


class PartialOutput(Answer):
    """What the present attempt brought forth so far. What counts is the result."""

    attempt: int
    #: How many characters came before the text: of a long output the end is shown.
    offset: int
    text: str


class JobView(Answer, kw_only=True):
    """A job as it stands."""

    job_id: str
    status: JobStatus
    model: str
    gpu_type: str
    gpu_count: int
    estimated_time: Number
    price: Amount
    priority: int
    timeout: Number
    max_attempts: int
    require_result: bool
    #: How many attempts have begun.
    attempts: int
    created_at: Instant
    #: When it expires unless it is completed.
    expires_at: Instant
    #: When the present or last attempt began.
    started_at: Instant | None
    finished_at: Instant | None
    #: Who holds it, or who completed it.
    miner_id: str | None
    miner_name: str | None
    #: 0 to 1, if the miner says.
    progress: Number | None
    progress_message: str
    #: Only of a job that is asked for by its id, while a miner holds it and says what it has.
    output: PartialOutput | None = None
    result_hash: str | None
    #: Bytes; `null` where no bytes were delivered.
    result_size: int | None
    #: Whether those bytes are no longer kept (the setting `retention.results`).
    result_expired: bool
    failure: Failure | None
    metrics: JobMetrics | None
    #: The files that it needs; absent where there are none.
    input_files: list[JobFile] | UnsetType = UNSET
    #: What its client wants it held to; absent where nothing was said.
    limits: JobLimits | UnsetType = UNSET


class JobPage(Answer):
    """Some jobs, the newest first."""

    jobs: list[JobView]
    #: Ask for the next page with `?cursor=`; `null` on the last.
    next_cursor: str | None


class FileView(Answer):
    """A file of this account."""

    sha256: str
    #: Its bytes; `null` while it is not whole.
    size: int | None
    #: How many bytes came of an upload that broke off; `null` where there is none.
    part_size: int | None
    created_at: Instant
    #: When it was last uploaded, or named by a new job: `retention.files` counts from there.
    touched_at: Instant


class FileState(Answer):
    """How far the upload of a file is. The `Upload-Offset` header says the same."""

    sha256: str
    #: From which byte on to send; of a file that is there, its size: nothing more need be sent.
    upload_offset: int
    #: Whether the account has the file.
    complete: bool


class FilePage(Answer):
    """Some of the account's files, the newest first."""

    files: list[FileView]
    #: Bytes of all of them together, parts included, and how many they may be; `null`: any number.
    used: int
    quota: int | None
    #: Ask for the next page with `?cursor=`; `null` on the last.
    next_cursor: str | None


class ClientView(Answer):
    """A client's account."""

    client_id: str
    name: str
    #: What is there to spend; below 0 where a credit line is drawn on.
    balance: Amount
    #: How far below 0 the balance may go.
    credit_line: Amount
    #: What is set aside for its unfinished jobs.
    held: Amount
    created_at: Instant
