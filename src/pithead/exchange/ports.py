"""What the operations need of a store. Every store passes the same conformance suite (tests/store)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, Protocol

import msgspec

from pithead.core import board
from pithead.core.board import Kind
from pithead.core.bookkeeping import Account, Posting, Priced
from pithead.core.jobs import Attempt, Job
from pithead.core.miners import Miner
from pithead.core.money import Transfer
from pithead.core.needs import Needs
from pithead.core.payouts import Payout
from pithead.core.receipts import Proof, Receipt
from pithead.core.why import Group
from pithead.exchange.events import Event
from pithead.exchange.input_ports import InputsTx
from pithead.exchange.webhook_ports import WebhooksTx

#: Bytes of telemetry beyond which it is kept only until the next.
LARGEST_TELEMETRY: Final = 16_384

OwnerKind = Literal["miner", "client", "operator"]
#: What earnings are added up by.
Grouping = Literal["day", "model", "client"]
#: What is done by one transaction at a time, whichever coordinator's it is.
Task = Literal["upkeep", "operator-key", "payouts", "data-key"]


class Client(msgspec.Struct, frozen=True):
    """A client."""

    seq: int  #: Its number, which is its account too.
    id: str
    name: str
    created_at: float
    credit_line: int = 0  #: How far below 0 its balance may go.


class Key(msgspec.Struct, frozen=True):
    """What is stored of an API key."""

    digest: bytes
    kind: OwnerKind
    owner: str
    created_at: float
    expires_at: float | None


class Held(msgspec.Struct, frozen=True):
    """A lease, as a heartbeat sees it."""

    job_id: str
    lease_expires_at: float
    lease_limit_at: float


class Notice(msgspec.Struct, frozen=True):
    """A job that was taken from a miner, to be told to it."""

    job_id: str
    reason: str
    at: float


class Settlement(msgspec.Struct, frozen=True):
    """What is kept with an attempt that completed its job."""

    receipt_id: str
    key_id: str
    #: Empty where it was not stored: it is made when it is asked for.
    signature: str
    earned: int
    metrics: bytes


class Kept(msgspec.Struct, frozen=True):
    """An answer kept under an idempotency key."""

    fingerprint: bytes
    status: int
    body: bytes


class WrappedKey(msgspec.Struct, frozen=True):
    """A key that blobs are encrypted under, itself encrypted under one that is derived from the database key."""

    id: bytes
    wrapped: bytes
    created_at: float


class Details(msgspec.Struct, frozen=True):
    """What a job's page shows beside the job."""

    miner_id: str | None
    miner_name: str | None
    #: JSON, as the miner sent it with the completion.
    metrics: bytes | None
    needs: Needs | None = None


class AuditRecord(msgspec.Struct, frozen=True):
    """Something an operator did."""

    seq: int
    at: float
    actor: str
    action: str
    subject: str
    detail: str


class Archived(msgspec.Struct, frozen=True):
    """What is left of a job that was archived."""

    seq: int
    id: str
    client: int
    model: str
    price: int
    state: str
    miner: int | None  #: Who completed it.
    created_at: float
    finished_at: float


class JobFilter(msgspec.Struct, frozen=True):
    """Which jobs a page shows."""

    client: int | None = None
    state: str | None = None
    model: str | None = None


class PayoutFilter(msgspec.Struct, frozen=True):
    """Which payouts a page shows: those of a miner, those in a state, or all."""

    miner: int | None = None
    state: str | None = None


class Entry(msgspec.Struct, frozen=True):
    """A posting as one account sees it."""

    seq: int
    at: float
    cause: str
    amount: int  #: Negative where the account gave it.
    job_id: str | None
    payout_id: str | None
    note: str


class Moved(msgspec.Struct, frozen=True):
    """A posting with the owners and classes of both accounts."""

    seq: int
    at: float
    cause: str
    debit_owner: str
    debit_kind: str
    credit_owner: str
    credit_kind: str
    amount: int
    job_id: str | None
    payout_id: str | None
    note: str


class Earned(msgspec.Struct, frozen=True):
    """What a miner was paid under one heading: a day (counted from the epoch), a model, or a client's id."""

    key: str
    jobs: int
    amount: int


class Try(msgspec.Struct, frozen=True):
    """An attempt at a job, as its page shows it."""

    number: int
    miner_id: str
    miner_name: str
    accepted_at: float
    ended_at: float | None
    #: `None` while it is held.
    outcome: str | None
    reason: str
    upload_size: int | None
    part_size: int | None
    #: Its receipt, and what it earned, where it completed the job.
    receipt_id: str | None
    key_id: str | None
    signature: str | None
    earned: int | None


class Posted(msgspec.Struct, frozen=True):
    """A posting of a job."""

    at: float
    cause: str
    amount: int


class Flow(msgspec.Struct, frozen=True):
    """What moved between two classes of account, for one cause."""

    cause: str
    debit_kind: str
    credit_kind: str
    postings: int
    amount: int


class Extent(msgspec.Struct, frozen=True):
    """How much of a ledger there is."""

    accounts: int
    jobs: int
    payouts: int
    #: Transfers that belong to no job and no payout.
    loose: int
    transfers: int


class Signed(msgspec.Struct, frozen=True):
    """The signature of a receipt; where many were signed at once, with the proof that it is one of them."""

    key_id: str
    signature: str
    proof: Proof | None = None

    def signed(self) -> "Signed":
        """Itself: what is signed already is as good as a ticket for it."""
        return self


class Ticket(Protocol):
    """Stands for the signature of a receipt, which is made when it is asked for. It may be asked for more than once."""

    def signed(self) -> Signed: ...


class Signer(Protocol):
    """Signs receipts with the coordinator's key."""

    @property
    def key_id(self) -> str: ...
    @property
    def public_key(self) -> bytes:
        """The 32 bytes that others check its signatures with."""

    def sign(self, receipt: Receipt) -> str:
        """The signature of this one alone: always the same."""

    def enlist(self, receipt: Receipt) -> Ticket:
        """Let it be signed with those that are enlisted before the first of them is asked for. From any thread."""

    def again(self, receipt: Receipt) -> Ticket:
        """As it was signed before, where that was lately; else alone. From any thread."""


class Tx(InputsTx, WebhooksTx, Protocol):
    """One transaction."""

    @property
    def events(self) -> Sequence[Event]:
        """What was emitted so far."""

    def emit(self, event: Event) -> None:
        """Let `event` take effect once this transaction is durable."""

    # -- accounts and the ledger
    def new_account(self, owner: str, kinds: Sequence[str]) -> int:
        """Open accounts with consecutive numbers, one of each kind; the first one's number."""

    def post(self, now: float, transfers: Sequence[Transfer]) -> None:
        """Write transfers into the ledger."""

    def balance(self, account: int) -> int:
        """What an account holds. Who means to spend it loads its owner first, so that no other operation spends it too."""

    def balances_by_kind(self) -> dict[str, int]: ...
    def set_credit_line(self, client: int, amount: int) -> None: ...
    def statement(self, account: int, before: int | None, limit: int) -> list[Entry]:
        """Some of an account's postings, the newest first."""

    def transfers_page(self, before: int | None, limit: int) -> list[Moved]: ...
    def earnings(self, account: int, by: Grouping, since: float, until: float) -> list[Earned]:
        """What was paid to a miner from `since` to before `until`, in the order of the headings."""

    # -- what pages show; each looks at `limit` rows at the most, the newest ones
    def attempts_of_job(self, job: int, limit: int) -> list[Try]:
        """The newest first."""

    def transfers_of_job(self, job: int, limit: int) -> list[Posted]:
        """The oldest first."""

    def finished_by_minute(self, since: float, limit: int) -> list[tuple[int, str, int]]:
        """Minutes counted from the epoch, final states, and how many jobs ended so."""

    def flows(self, since: float, limit: int) -> list[Flow]: ...
    def taken(self, account: int, by: Literal["day", "model"], since: float, limit: int) -> list[Earned]:
        """What an account was paid for jobs."""

    def given(self, account: int, by: Literal["day", "model"], since: float, limit: int) -> list[Earned]:
        """What a client's escrow paid for jobs, fees included."""

    # -- the check of the ledger; all of it is read in batches
    def ledger_extent(self) -> Extent: ...
    def ledger_sum(self) -> int:
        """The sum of all balances."""

    def accounts_to_check(self) -> Iterator[Account]: ...
    def jobs_to_check(self) -> Iterator[tuple[Priced | None, list[Posting]]]:
        """Every job with its postings, and (`None`) the postings of jobs that are not there."""

    def payouts_to_check(self) -> Iterator[tuple[Payout | None, list[Posting]]]:
        """Likewise, of payouts."""

    def loose_postings(self) -> Iterator[tuple[Posting, str | None, str | None]]:
        """The postings of no job and no payout, with the classes of their two accounts."""

    # -- payouts
    def add_payout(self, payout: Payout) -> Payout:
        """Store a new payout; the same with its number."""

    def payout_by_id(self, payout_id: str) -> Payout | None: ...
    def save_payout(self, before: Payout, after: Payout) -> bool:
        """Save `after` where the payout still is in the state of `before`; false if it is not."""

    def payouts_page(self, where: PayoutFilter, before: int | None, limit: int) -> list[Payout]: ...
    def miners_due(self, period: float, least: int, limit: int) -> list[Miner]:
        """Miners with at least `least` and a destination, for whom the schedule made no payout in this period."""

    # -- keys
    def add_key(self, key: Key) -> None: ...
    def key(self, digest: bytes) -> Key | None: ...
    def end_keys(self, owner: str, at: float) -> int:
        """Let the owner's keys end at `at`, where they would not end earlier; how many."""

    def forget_ended_keys(self, owner: str, before: float) -> None:
        """Forget the owner's keys that ended before this instant."""

    def has_operator_key(self) -> bool: ...

    # -- clients
    def add_client(self, client: Client) -> None: ...
    def client_by_id(self, client_id: str) -> Client | None: ...
    def client_by_seq(self, seq: int) -> Client | None: ...
    def clients_page(self, before: int | None, limit: int) -> list[Client]: ...

    # -- miners
    def add_miner(self, miner: Miner) -> None: ...
    def miner_by_id(self, miner_id: str) -> Miner | None: ...
    def miner_by_seq(self, seq: int) -> Miner | None: ...
    def save_miner(self, miner: Miner) -> None:
        """Everything but what `beat` and `count_ended` write."""

    def beat(self, miner: int, now: float, offline_at: float) -> None:
        """The miner was heard of; it is online."""

    def heard(self, miner: int, at: float, offline_at: float) -> None:
        """The miner was heard of at that time; it stays online, if it is."""

    def count_ended(
        self,
        miner: int,
        outcome: str,
        *,
        wall: float = 0.0,
        gpu_seconds: float = 0.0,
        earned: int = 0,
        undo: bool = False,
    ) -> None:
        """Count an attempt that ended `completed`, `failed` or `lapsed`, or take that back."""

    def miners_page(self, before: int | None, limit: int, status: str | None) -> list[Miner]: ...
    def miners_by_status(self) -> dict[str, int]: ...
    def census(self) -> list[Group]:
        """The miners that are not retired, those together that are alike to matching."""

    def set_telemetry(self, miner: int, now: float, body: bytes) -> None: ...
    def telemetry(self, miner: int) -> bytes | None: ...
    def telemetry_since(self, miner: int, since: float, limit: int) -> list[tuple[float, bytes]]:
        """When, to the minute, and what it was; the oldest first. What was larger than `LARGEST_TELEMETRY` was not kept."""

    def prune_telemetry(self, before: float) -> int:
        """Forget telemetry older than this instant; how many samples."""

    def set_speeds(self, miner: int, speeds: Mapping[str, float]) -> None:
        """In place of those that it had: model to tokens a second."""

    def speeds_of_miner(self, miner: int) -> dict[str, float]: ...
    def speeds_of_model(self, model: str) -> list[float]:
        """Those of the miners that were admitted; of some, where there are more than a thousand."""

    # -- enrolment
    def add_enrollment_token(self, digest: bytes, uses: int, expires_at: float) -> None: ...
    def use_enrollment_token(self, digest: bytes, now: float) -> bool:
        """Take one use of it; false if there is none."""

    # -- jobs
    def add_job(self, job: Job, body: bytes) -> Job:
        """Store a new job; the same with its number."""

    def job_by_id(self, job_id: str) -> Job | None: ...
    def save_job(self, before: Job, after: Job) -> bool:
        """Save `after` where the job still is in the state and at the attempt of `before`; false if it is not."""

    def job_details(self, job: Job) -> Details: ...
    def jobs_page(self, where: JobFilter, before: int | None, limit: int) -> list[Job]: ...
    def jobs_by_state(self) -> dict[str, int]:
        """How many unfinished jobs there are in each state."""

    def held_by_state(self) -> dict[str, int]:
        """How many jobs miners hold, in each state."""

    def queue_by_model(self) -> list[tuple[str, str, int, float]]:
        """For each gpu type and model that queued jobs ask for: how many they are, and when the first was submitted."""

    def queued_kinds(self, now: float) -> list[tuple[Kind, int]]:
        """The kinds of the queued jobs that are in no back-off, and how many there are of each."""

    def newest_job(self) -> int:
        """The highest number that a job has; 0 where there is none."""

    def queued(self, kind: Kind, after: board.Key | None, now: float, limit: int) -> list[Job]:
        """Those of one kind in the board's order, from behind `after` on (`None`: from the first)."""

    def queued_before(self, kind: Kind, key: board.Key) -> int:
        """How many of one kind stand before the job with this key in the board's order."""

    def queued_resting(self, now: float) -> list[Job]:
        """The queued jobs that are in back-off."""

    def held(self, miner: int) -> list[Held]: ...
    def held_count(self, miner: int) -> int: ...
    def held_jobs(self, miner: int) -> list[Job]: ...
    def renew(self, miner: int, job_ids: Sequence[str] | None, expires_at: float) -> None:
        """Let the miner's leases on these jobs (`None`: all) run to `expires_at`, or to their limits if those are sooner.

        One that runs longer already is not cut short.
        """

    # -- attempts
    def add_attempt(self, attempt: Attempt) -> None: ...
    def newest_attempt(self, job: int, miner: int, token: str | None) -> Attempt | None:
        """The miner's newest attempt at the job, or the one that `token` names."""

    def end_attempt(self, job: int, number: int, now: float, outcome: str, reason: str = "") -> None: ...
    def set_upload(self, job: int, number: int, digest: str, size: int, blob: str) -> None:
        """The bytes of the attempt's result are there; a part of them is no longer needed."""

    def set_part(self, job: int, number: int, size: int, blob: str) -> None:
        """A part of the bytes of the attempt's result is there."""

    def settle(self, job: int, number: int, now: float, settlement: Settlement) -> None:
        """End the attempt as `completed`, with what it earned."""

    def settlement(self, job: int, number: int) -> Settlement | None: ...
    def result_blob(self, job: int, number: int) -> str | None: ...
    def is_orphan(self, owner: str, blob: str) -> bool:
        """Whether its job or file (`blobs.owner_of`) does not name the blob, and never will: an attempt of a job that is
        not finished may, and so may a file that is not whole."""

    def names_blob(self, owner: str, blob: str) -> bool:
        """Whether an attempt of the job, or the file, names the blob: all of the bytes, or a part."""

    def count_blobs(self, suffix: str) -> tuple[int, int]:
        """How many blobs attempts and files name, parts included, and how many of those names end in this."""

    def rename_blob(self, owner: str, before: str, after: str) -> None:
        """Let what names the blob `before` of this job or file, as a whole or a part, name `after`."""

    # -- what attempts brought forth so far
    def output_size(self, job: int, attempt: int) -> int:
        """How many characters are there."""

    def add_output(self, job: int, attempt: int, start: int, text: str, now: float) -> None:
        """Keep a piece that begins where what is there ends."""

    def output_from(self, job: int, attempt: int, place: int) -> tuple[int, str]:
        """What is there from this character on, and where that begins: later, where the first of it is gone."""

    def keep_trace(self, job: int, context: str) -> None:
        """The job was submitted within this span (a `traceparent`)."""

    def trace(self, job: int) -> str | None:
        """The span that it was submitted within; `None` where nobody told."""

    def prune_outputs(self, before: float, limit: int) -> int:
        """Forget what jobs brought forth that were finished before this instant; how many pieces."""

    # -- the keys that blobs are encrypted under
    def data_keys(self) -> list[WrappedKey]: ...
    def add_data_key(self, key: WrappedKey) -> None: ...
    def save_data_key(self, key: WrappedKey) -> None:
        """Store the key as it is wrapped now."""

    def delete_data_keys(self) -> None: ...

    # -- what miners are told
    def add_notice(self, miner: int, job_id: str, reason: str, now: float) -> None: ...
    def notices(self, miner: int) -> list[Notice]: ...

    # -- idempotency
    def claim_answer(self, owner: str, name: str, now: float, fingerprint: bytes) -> Kept | None:
        """Take this name of the owner's for an answer to come; `None` if it was free, else what is kept under it."""

    def keep_answer(self, owner: str, name: str, status: int, body: bytes) -> None:
        """Keep the answer under a name that was claimed in this transaction."""

    # -- care
    def lapsed(self, now: float, limit: int) -> list[Job]:
        """Held jobs whose lease has run out."""

    def overdue(self, now: float, limit: int) -> list[Job]:
        """Unfinished jobs whose time is up."""

    def mark_offline(self, now: float) -> list[int]:
        """Online miners whose time without a heartbeat is up go offline; which."""

    def prune(self, notices_before: float) -> None:
        """Forget notices older than this instant."""

    def meta(self, name: str) -> float | None:
        """A number that is kept under a name."""

    def set_meta(self, name: str, value: float | None) -> None: ...
    def alone(self, task: Task) -> bool:
        """Whether no other transaction is at this task; if so, none will be until this one ends."""

    def only_one(self) -> bool:
        """Whether no other coordinator is up."""

    def alive_at(self) -> float | None:
        """When a coordinator last said that it was up."""

    def set_alive(self, now: float) -> None: ...
    def extend(self, seconds: float) -> int:
        """Move the end of every lease, its limit and its job's deadline, and every online miner's, by `seconds`."""

    # -- retention; the oldest first, so many at the most
    def forget_answers(self, before: float, limit: int) -> int:
        """Forget kept answers older than this instant; how many."""

    def results_to_expire(self, before: float, limit: int) -> list[Job]:
        """Completed jobs of before this instant whose results are still there."""

    def expire_result(self, job: int, now: float) -> list[str]:
        """The job's result is given up; the names of the blobs that nothing refers to any more."""

    def jobs_to_archive(self, before: float, limit: int) -> list[Job]:
        """Jobs that were finished before this instant; never the newest job there is, whose number is the highest."""

    def archive_job(self, job: int) -> list[str]:
        """Keep of a finished job only what the ledger needs; the names of the blobs that nothing refers to any more."""

    def archived(self, job_id: str) -> Archived | None:
        """What is left of a job that was archived."""

    # -- signatures
    def add_signing_key(self, key_id: str, public_key: bytes, now: float) -> None:
        """A coordinator signs with this key; once it is known that changes nothing."""

    def signing_keys(self) -> list[tuple[str, bytes]]:
        """Every key that receipts are or were signed with, the newest first: its id, and the 32 bytes to check with."""

    # -- the audit log
    def audit(self, now: float, actor: str, action: str, subject: str, detail: str = "") -> None: ...
    def audit_page(self, before: int | None, limit: int) -> list[AuditRecord]: ...
