"""What is refused: each has a title and a name of its own, and says what is wrong."""

import pytest

from pithead.core import errors
from pithead.core.errors import Fault, Invalid, JobTaken, Refusal


def everything() -> list[type[Refusal]]:
    """The tree."""
    found, edge = [Refusal], [Refusal]
    while edge:
        edge = [kind for parent in edge for kind in parent.__subclasses__() if kind.__module__ == errors.__name__]
        found += edge
    return found


@pytest.mark.parametrize("kind", everything(), ids=lambda kind: kind.__name__)
def test_the_docstring_is_the_title(kind: type[Refusal]) -> None:
    title = kind.title()
    assert title
    assert not title.endswith(".")
    assert "\n" not in title
    assert kind.__doc__ == title + "."
    if not issubclass(kind, Invalid):
        assert str(kind()) == title
        assert (str(kind("job_7 is gone")), kind("job_7 is gone").detail) == ("job_7 is gone", "job_7 is gone")


def test_each_is_named_once() -> None:
    kinds = everything()
    assert len({kind.slug for kind in kinds}) == len({kind.title() for kind in kinds}) == len(kinds) > 10
    assert all(kind.slug == kind.slug.lower() and " " not in kind.slug for kind in kinds)


def test_what_is_not_valid_says_every_fault() -> None:
    refusal = Invalid(Fault("price", "is missing"), Fault("", "must be an object"))
    assert str(refusal) == refusal.detail == "price: is missing; must be an object"
    assert refusal.faults == (Fault("price", "is missing"), Fault("", "must be an object"))


def test_whoever_catches_the_kind_catches_the_case() -> None:
    with pytest.raises(errors.Conflict):
        raise JobTaken("job_7")
