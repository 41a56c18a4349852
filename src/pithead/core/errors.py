"""Everything that the exchange refuses, as one tree. The docstring is the title that the caller sees."""

from typing import ClassVar

import msgspec


class Fault(msgspec.Struct, frozen=True):
    """One fault of a request: the field (or `` for the whole) and what is wrong with it."""

    field: str
    message: str


class Refusal(Exception):
    """The request was refused."""

    #: Names the kind of refusal in a problem's `type`.
    slug: ClassVar[str] = "refused"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.title())
        self.detail = detail

    @classmethod
    def title(cls) -> str:
        """The first line of the docstring, without its full stop."""
        return (cls.__doc__ or "").partition("\n")[0].rstrip(".")


class NotFound(Refusal):
    """There is no such thing here."""

    slug = "not-found"


class Forbidden(Refusal):
    """The key may not do this."""

    slug = "forbidden"


class PaymentRequired(Refusal):
    """The balance does not cover the price."""

    slug = "balance-too-low"


class Gone(Refusal):
    """It was here, and is no more."""

    slug = "gone"


class ResultExpired(Gone):
    """The bytes of the result are no longer kept."""

    slug = "result-expired"


class JobArchived(Gone):
    """The job is no longer kept."""

    slug = "job-archived"


class Invalid(Refusal):
    """The request reads, but is not valid."""

    slug = "invalid"

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(f"{f.field}: {f.message}" if f.field else f.message for f in faults))
        self.faults = faults


class FileUnknown(Invalid):
    """The account has no such file."""

    slug = "input-file-unknown"


class Conflict(Refusal):
    """The state of things does not allow it."""

    slug = "conflict"


class JobTaken(Conflict):
    """The job is already assigned."""

    slug = "job-already-assigned"


class JobNotAvailable(Conflict):
    """The job cannot be taken."""

    slug = "job-not-available"


class JobFinished(Conflict):
    """The job is already finished."""

    slug = "job-finished"


class NotHolder(Conflict):
    """The caller does not hold this job."""

    slug = "not-the-holder"


class Fenced(Conflict):
    """A later lease on this job exists."""

    slug = "lease-superseded"


class HashMismatch(Conflict):
    """The job was completed with another hash."""

    slug = "completed-with-another-hash"


class ResultMissing(Conflict):
    """The job asks for the bytes of its result, and they have not arrived."""

    slug = "result-missing"


class FileInUse(Conflict):
    """A job that is not finished needs the file."""

    slug = "input-file-in-use"


class OverQuota(Conflict):
    """The account's files are as many as they may be."""

    slug = "file-quota-exceeded"


class MinerNotActive(Conflict):
    """The miner can take no job now."""

    slug = "miner-not-active"
