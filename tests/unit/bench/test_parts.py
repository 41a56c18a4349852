"""What the parts of a call are."""

from pathlib import Path

import pytest
import uvloop
from bench import parts

from pithead.store.batches import Batches


def test_the_parts_of_each_call_are_those_of_its_operation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_AT_ONCE", 8)
    monkeypatch.setattr(parts, "_EACH", 16)
    monkeypatch.setattr(parts, "_ROUNDS", 2)
    monkeypatch.setattr(parts, "spare_the_collector", lambda: None)
    run = Batches.run
    found = uvloop.run(parts.measure(tmp_path))
    assert list(found) == ["heartbeat", "available", "submit", "accept", "complete"]
    assert Batches.run is run, "nothing stays timed"
    for part in found.values():
        assert part.total > part.operations + part.signatures
        assert part.operations >= part.statements
    assert found["complete"].signatures > 0 == found["accept"].signatures
    assert [round(found[name].count) for name in ("submit", "accept", "complete")] == [3, 2, 5]
