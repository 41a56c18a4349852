"""What a job brings forth while it runs: text that grows, told in pieces that may be lost, late, or told twice."""

from typing import Final

#: Characters of one attempt that are kept for those who watch. The result has no such bound: what is longer is cut here only.
MOST: Final = 262_144


def fresh(size: int, offset: int, text: str, most: int = MOST) -> str:
    """What of a piece that begins at `offset` is new, where the first `size` characters are there.

    Nothing where it is known already, or where something before it is missing: then it has to be told from `size` on.
    """
    if not size >= offset >= 0:
        return ""
    # Whatever a model prints: there are databases that hold no NUL.
    return text[size - offset : max(0, most - offset)].replace("\x00", "\N{REPLACEMENT CHARACTER}")
