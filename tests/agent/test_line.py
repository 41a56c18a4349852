"""Calls that are made again until they are answered, and how long is waited between two tries."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.agent.rig import Rig

from pithead.agent import line as lines
from pithead.agent.line import Line, Pace
from pithead.client import BadAnswer, Conflict, RateLimited, Unreachable
from pithead.client.errors import ApiError
from pithead.wire.base import Problem

AWAY = Unreachable(url="http://pithead", why="refused")


def problem(status: int) -> Problem:
    return Problem(type="about:blank", title="T", status=status, detail="so it is")


class Calls:
    """Fails in turn, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.at: list[float] = []

    async def __call__(self) -> str:
        self.at.append(asyncio.get_running_loop().time())
        if self.failures:
            raise self.failures.pop(0)
        return "answer"


@pytest.fixture
def line(dark: Rig) -> Line:
    return Line(Pace(), dark.time.monotonic)


async def made(dark: Rig, coroutine: Awaitable[Any], seconds: float = 300) -> Any:
    task = asyncio.ensure_future(coroutine)
    for _ in range(int(seconds * 4)):
        if task.done():
            break
        await dark.passes(0.25, step=0.25)
    return await task


def test_pauses_double_up_to_the_longest_with_jitter_that_halves_them_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    for drawn, share in ((0.0, 0.5), (1.0, 1.0)):
        monkeypatch.setattr(lines, "draw", lambda drawn=drawn: drawn)
        first = list(itertools.islice(Pace(first_pause=1, longest_pause=10).pauses(), 6))
        assert first == [share * pause for pause in (1, 2, 4, 8, 10, 10)]


@pytest.mark.parametrize(
    "failure",
    [AWAY, BadAnswer(url="http://pithead", why="a proxy's page"), ApiError(problem(500)), ApiError(problem(503))],
)
async def test_what_another_try_may_mend_is_tried_again(failure: Exception, line: Line, dark: Rig) -> None:
    calls = Calls(*[failure] * 12)
    assert await made(dark, line.insist(calls)) == "answer"
    assert len(calls.at) == 13
    assert max(later - earlier for earlier, later in itertools.pairwise(calls.at)) <= 10.25
    assert not line.away


async def test_what_it_would_not_mend_is_raised(line: Line) -> None:
    calls = Calls(Conflict(problem(409)))
    with pytest.raises(Conflict):
        await line.insist(calls)
    assert len(calls.at) == 1


async def test_it_is_known_while_the_coordinator_is_away(line: Line, dark: Rig) -> None:
    def away() -> bool:
        return line.away

    asking = asyncio.create_task(line.insist(Calls(*[AWAY] * 3)))
    await dark.settled()
    assert away()
    await made(dark, asking)
    assert not away()
    # An error is an answer too.
    line.lost(AWAY)
    with pytest.raises(Conflict):
        await line.insist(Calls(Conflict(problem(409))))
    assert not away()


async def test_a_limit_is_waited_out_to_the_second_and_is_no_absence(line: Line, dark: Rig) -> None:
    calls = Calls(RateLimited(problem(429), 30), RateLimited(problem(429), 0))
    await made(dark, line.insist(calls))
    assert 30 <= calls.at[1] - calls.at[0] <= 30.5
    assert 0 < calls.at[2] - calls.at[1] <= 1.25, "where no time is told, a pause is made all the same"
    assert not line.away


async def test_a_limit_of_job_operations_holds_for_all_of_them(line: Line, dark: Rig) -> None:
    limited, other = Calls(RateLimited(problem(429), 30)), Calls()
    first = asyncio.create_task(line.deliver(limited))
    await dark.passes(1)
    second = asyncio.create_task(line.deliver(other))
    await dark.passes(28.5, step=0.5)
    assert other.at == []
    await dark.passes(2, step=0.5)
    assert [await first, await second] == ["answer", "answer"]


async def test_deliveries_go_before_accepts_that_wait_for_the_same_limit(line: Line, dark: Rig) -> None:
    order: list[str] = []

    def named(name: str, *failures: Exception) -> Callable[[], Awaitable[str]]:
        calls = Calls(*failures)

        async def call() -> str:
            answer = await calls()
            order.append(name)
            return answer

        return call

    accepting = asyncio.create_task(line.accept(named("accept", RateLimited(problem(429), 30))))
    await dark.passes(1)
    delivering = asyncio.create_task(line.deliver(named("deliver")))
    another = asyncio.create_task(line.accept(named("another accept")))
    await dark.passes(60, step=0.5)
    await asyncio.gather(accepting, delivering, another)
    assert order[0] == "deliver"
