"""What `pithead miner doctor` finds: one thing that was looked at, with what to do about it."""

from __future__ import annotations

from typing import Literal

import msgspec

Grade = Literal["ok", "note", "fault"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    name: str
    grade: Grade
    found: str
    #: What to do about it; empty where there is nothing to be done.
    do: str = ""
