"""Pages that change while one looks at them: a stream of server-sent events says when, and the page asks for itself again.

What happened is heard in memory (`exchange.live`); a stream asks the database nothing but once, whose it is. However much
happens, it says so once in a second or two at the most.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from starlette.responses import Response

from pithead.core.errors import NotFound
from pithead.exchange import jobs, miners
from pithead.exchange.live import Live
from pithead.exchange.ports import Tx
from pithead.http.sse import PING, PING_EVERY, Events
from pithead.web.passing import Passed
from pithead.web.visits import Visit

#: Seconds between two messages of one stream: about a job, and about all that happens to an account.
PACE, SLOWLY = 1.0, 2.0
_CHANGE: Final = b"event: change\ndata:\n\n"
#: On which the page does not come back.
_END: Final = b"event: end\ndata:\n\n"


async def events(visit: Visit) -> Response:
    """`of`: what to hear of: `all`, `mine`, `miner:ID` or `job:ID`. Raises `NotFound`."""
    wanted, caller, live = visit.query("of") or "", visit.caller, visit.exchange.live
    subject = await visit.exchange.peek(lambda tx: _subject(tx, wanted, caller.kind, caller.id))

    async def allowed() -> bool:
        return await visit.exchange.still_valid(caller)

    frames = _of_job(live, subject, allowed) if isinstance(subject, str) else _of_account(live, subject, allowed)
    return Passed(Events(frames))


def _subject(tx: Tx, wanted: str, kind: str, owner: str) -> str | int | None:
    """A job's id, an account's number, or `None` for all accounts. Raises `NotFound` where it is not theirs to hear of."""
    what, _, which = wanted.partition(":")
    if what == "job" and kind != "miner":
        return jobs.find_own(tx, which, owner if kind == "client" else None).id
    if what == "miner" and kind == "operator":
        return miners.find(tx, which).seq
    if wanted == "all" and kind == "operator":
        return None
    if wanted == "mine" and kind == "client":
        return jobs.client(tx, owner).seq
    if wanted == "mine" and kind == "miner":
        return miners.find(tx, owner).seq
    raise NotFound(f"there is nothing to hear of {wanted}")


async def _of_job(live: Live, job_id: str, allowed: Callable[[], Awaitable[bool]]) -> AsyncGenerator[bytes]:
    with live.bell(job_id) as bell:
        yield PING
        while not live.ended:
            # It rings at the coordinator's end too.
            rung = await bell.heard(PING_EVERY)
            if not await allowed():
                break
            yield _CHANGE if rung else PING
            await asyncio.sleep(PACE if rung else 0)
    yield _END


async def _of_account(live: Live, account: int | None, allowed: Callable[[], Awaitable[bool]]) -> AsyncGenerator[bytes]:
    yield PING
    while not live.ended:
        with live.feed(account) as feed:
            while not feed.cut_off:
                happened = await feed.next(PING_EVERY)
                if not await allowed():
                    yield _END
                    return
                while feed.has_more:
                    await feed.next(0)
                yield _CHANGE if happened or feed.cut_off else PING
                # What happens from here on waits in the feed: the page may have been read before it.
                await asyncio.sleep(SLOWLY if happened else 0)
    yield _END
