"""Bringing a finished result in: upload, complete, and what each refusal means."""

from __future__ import annotations

import logging
from typing import Final

from pithead.agent.line import Line
from pithead.agent.spool import Finished, Spool
from pithead.client import ApiError, AsyncMinerClient, Conflict, Invalid, NotFound, Unauthorized
from pithead.wire.miners import Completed

log = logging.getLogger(__name__)

#: Uploads of one result that may arrive as something else before that is taken for a fault of the line.
_UPLOADS: Final = 3


class NotTaken(Exception):
    """The coordinator does not take the result, and never will; the message is its reason."""

    def __init__(self, reason: str, *, still_held: bool) -> None:
        super().__init__(reason)
        #: Whether the job is still this miner's: it is the result that is refused, not whose it is.
        self.still_held = still_held


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
        except NotFound as error:
            raise NotTaken(error.detail, still_held=False) from None
        except ApiError as error:
            raise NotTaken(error.detail, still_held=True) from None
        except OSError as error:
            log.warning("%s: the result cannot be read from the disk: %s", job_id, error)
            raise NotTaken("the miner cannot read it from its disk any more", still_held=True) from None
        try:
            return await line.deliver(lambda: client.complete(job_id, finished.result_hash, finished.metrics, token))
        except Unauthorized:
            raise
        except ApiError as error:
            # The bytes are not there, or arrived as others: send them once more.
            again = isinstance(error, Invalid) or error.problem.type.endswith("/result-missing")
            if not again or attempt == _UPLOADS:
                raise NotTaken(error.detail, still_held=again) from None
    raise AssertionError("the last attempt returns or raises")
