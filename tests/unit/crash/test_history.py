"""A history survives its party."""

from pathlib import Path

from tests.crash.history import Recorder, read

from pithead.client.errors import Unreachable, api_error
from pithead.wire.base import Problem


async def told(answer: object) -> object:
    if isinstance(answer, Exception):
        raise answer
    return answer


async def test_a_call_ends_as_it_was_told(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    recorder = Recorder(file, "miner_1")
    refused, unknown = (Problem(type="x", title="x", status=status, detail="why") for status in (409, 503))
    for answer in (7, api_error(refused, None), api_error(unknown, 5), Unreachable(url="u", why="w")):
        await recorder.call("accept", {"job": "job_1"}, told(answer), lambda said: {"said": said})
    recorder.close()
    ops = read([file])
    assert [(op.party, op.call, op.about, op.told) for op in ops] == [
        ("miner_1", "accept", {"job": "job_1"}, one) for one in ("ok", "refused", "unknown", "unknown")
    ]
    assert ops[0].said == {"said": 7}
    assert all(op.answered_at is not None and op.answered_at >= op.asked_at for op in ops)


async def test_what_was_under_way_when_its_party_was_killed_is_unknown(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    recorder = Recorder(file, "miner_1")
    await recorder.call("accept", {}, told(7), lambda said: {})
    recorder.close()
    asked, answered = file.read_bytes().splitlines(keepends=True)
    for left in (asked, asked + answered[:-5]):
        file.write_bytes(left)
        (op,) = read([file])
        assert (op.told, op.answered_at) == ("unknown", None)
