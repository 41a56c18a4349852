"""`why` against dispatch: it says that a job fits exactly where dispatch would offer it, and its advice helps."""

from collections import Counter
from typing import Any

import hypothesis.strategies as st
import msgspec
from hypothesis import given
from tests.unit.core.examples import NOW, job, miner

from pithead.core import matching, why
from pithead.core.board import Board, Kind, kind_of
from pithead.core.jobs import Job
from pithead.core.matching import ANY, RULES, avoids, first_broken, first_unmet, misfit, unready
from pithead.core.miners import Admission, Miner
from pithead.core.money import affordable_rate, price_for
from pithead.core.why import Census, Group, JobTally, MinerTally, stops_of

TYPES = ["v100", "a100", "cpu"]
MODELS = ["gpt2", "llama", "whisper"]
jobs = st.fixed_dictionaries({
    "gpu_type": st.sampled_from([*TYPES[:2], ANY]),
    "model": st.sampled_from(MODELS),
    "gpu_count": st.sampled_from([1, 2, 8]),
    "price": st.sampled_from([0, 10_000, 50_000]),
    "estimated_ms": st.sampled_from([60_000, 600_000]),
    "avoid_miner": st.sampled_from([None, None, 200]),
})  # fmt: skip
miners = st.builds(
    miner,
    gpu_type=st.sampled_from(TYPES),
    gpu_count=st.sampled_from([1, 2, 4, 8]),
    price_per_hour=st.sampled_from([0, 60_000, 300_000, 300_001]),
    models=st.none() | st.frozensets(st.sampled_from(MODELS)),
    admission=st.sampled_from([Admission.PENDING, *[Admission.ADMITTED] * 4, Admission.SUSPENDED]),
    online=st.sampled_from([True, True, True, False]),
    draining=st.sampled_from([False, False, False, True]),
    max_concurrent=st.integers(1, 3),
)


def queue_of(given: list[dict[str, Any]]) -> list[Job]:
    return [job(**one, seq=number, avoid_until=NOW + 60) for number, one in enumerate(given, 1)]


@given(party=miners, held=st.integers(0, 3), given_jobs=st.lists(jobs, max_size=30))
def test_why_says_that_a_job_fits_exactly_where_dispatch_would_offer_it(
    party: Miner, held: int, given_jobs: list[dict[str, Any]]
) -> None:
    queue = queue_of(given_jobs)
    board = Board(queue, NOW)
    tally, avoided = MinerTally(party), 0
    for kind in board.kinds():
        if tally.add(kind, board.depth(kind)):
            avoided += board.avoiding(kind, party, NOW)
    found = tally.result(stops_of(party, held), avoided, board.resting)
    offered = [one for one in board.best(party, NOW, 100) if unready(party, held) is None]
    if found.stops:
        assert offered == []
    else:
        assert len(offered) == found.fits - found.avoided
    assert found.queued == len(queue)
    assert {one.seq for one in queue if misfit(party, one) is None and not avoids(one, party.seq, NOW)} >= {
        one.seq for one in offered
    }
    assert found.fits + sum(reason.jobs for reason in found.reasons) == len(queue)
    assert sum(kind.jobs for kind in found.kinds) == len(queue) - found.fits
    assert found.kinds_left_out == 0


@given(party=miners, held=st.integers(0, 3), given_jobs=st.lists(jobs, min_size=1, max_size=30))
def test_the_first_rule_changed_as_told_no_longer_stops(
    party: Miner, held: int, given_jobs: list[dict[str, Any]]
) -> None:
    tally = MinerTally(party)
    for kind, count in Counter(map(kind_of, queue_of(given_jobs))).items():
        tally.add(kind, count)
    rules = {rule.name: rule for rule in RULES}
    for stopped in tally.result([], 0, 0).kinds:
        rule = rules[stopped.rule]
        assert first_broken(party, stopped.kind) is rule
        mended = rule.mended(party, stopped.kind)
        assert rule.passes(mended, stopped.kind)
        after = first_broken(mended, stopped.kind)
        # What comes to light then is a later rule, so that advice followed comes to an end.
        assert after is None or RULES.index(after) > RULES.index(rule)
    assert [stop.rule for stop in stops_of(party, held)][:1] == [
        condition.name for condition in [first_unmet(party, held)] if condition is not None
    ]
    if held >= party.max_concurrent:
        told = msgspec.structs.replace(party, max_concurrent=held + 1)
        assert "max_concurrent" not in [stop.rule for stop in stops_of(told, held)]


def census_of(parties: list[tuple[Miner, int]]) -> Census:
    """As the database groups them."""
    groups: dict[Any, list[tuple[int, int]]] = {}
    for party, held in parties:
        busy = held >= party.max_concurrent
        like = msgspec.structs.replace(party, seq=0, id="", max_concurrent=1)
        groups.setdefault((like, busy), []).append((party.max_concurrent, max(0, party.max_concurrent - held)))
    return Census(
        Group(like, busy, len(of), sum(slots for slots, _ in of), sum(free for _, free in of))
        for (like, busy), of in groups.items()
    )


def tallied(wanted: Job, census: Census, avoiding: bool = False) -> why.JobWhy:
    tally = JobTally(wanted)
    for group in census.groups:
        tally.add(group)
    return tally.result(wanted.gpu_count, wanted.estimated_ms, avoiding)


@given(given_job=jobs, parties=st.lists(st.tuples(miners, st.integers(0, 3)), max_size=20))
def test_a_job_is_told_of_every_miner_once(given_job: dict[str, Any], parties: list[tuple[Miner, int]]) -> None:
    wanted = job(**given_job)
    census = census_of(parties)
    found = tallied(wanted, census)
    assert found.registered == len(parties) == found.ready + sum(one.miners for one in found.excluded)
    assert found.fits == sum(misfit(party, wanted) is None for party, _ in parties)
    assert found.ready == sum(misfit(party, wanted) is None and unready(party, held) is None for party, held in parties)
    for rule in RULES:
        stopped = sum(first_broken(party, wanted) is rule for party, _ in parties)
        assert stopped == sum(one.miners for one in found.excluded if one.rule == rule.name)
    serves = any(misfit(p, wanted) is None for p, _ in parties if p.admission is not Admission.SUSPENDED)
    assert census.serves(wanted) == serves
    assert (census.unserved(wanted, wanted.estimated_ms) is None) == serves


@given(given_job=jobs, parties=st.lists(st.tuples(miners, st.integers(0, 3)), max_size=20))
def test_at_the_price_that_is_told_so_many_more_fit(
    given_job: dict[str, Any], parties: list[tuple[Miner, int]]
) -> None:
    census, wanted = census_of(parties), job(**given_job)
    before = tallied(wanted, census)
    if before.more_at is None:
        later = msgspec.structs.replace(wanted, rate=10**12)
        usable = census_of([(p, held) for p, held in parties if p.admission is not Admission.SUSPENDED])
        assert tallied(later, usable).fits == tallied(wanted, usable).fits
        return
    raised = job(**given_job | {"price": before.more_at.price})
    assert tallied(raised, census).fits >= before.fits + before.more_at.miners
    cheaper = job(**given_job | {"price": before.more_at.price - 1})
    assert before.more_at.price > wanted.price
    assert tallied(cheaper, census).fits <= tallied(raised, census).fits - before.more_at.miners


@given(rate=st.integers(0, 10**9), count=st.integers(1, 64), milliseconds=st.integers(1, 10**8))
def test_the_price_for_a_rate_is_the_lowest_that_affords_it(rate: int, count: int, milliseconds: int) -> None:
    price = price_for(rate, count, milliseconds)
    assert affordable_rate(price, count, milliseconds) >= rate
    assert price == 0 or affordable_rate(price - 1, count, milliseconds) < rate


@given(given_jobs=st.lists(jobs, min_size=1, max_size=30), which=st.integers(0, 29), window=st.sampled_from([2, 64]))
def test_what_stands_before_a_job_is_counted(given_jobs: list[dict[str, Any]], which: int, window: int) -> None:
    queue = queue_of(given_jobs)
    board = Board((), NOW, window)
    for kind, count in Counter(map(kind_of, queue)).items():
        board.expect(kind, count)
        board.begin_fill(kind)
        of_kind = [one for one in queue if kind_of(one) == kind]
        board.fill(kind, of_kind[:window], last=len(of_kind) < window)
    mine = queue[which % len(queue)]
    for kind in board.kinds():
        before = board.before(kind, (-mine.priority, mine.seq))
        truth = sum(kind_of(one) == kind and one.seq < mine.seq for one in queue)
        assert before.known <= truth <= before.known + before.unsure
        assert before.unsure == 0 or len([one for one in queue if kind_of(one) == kind]) > window
    assert board.before(Kind("no", "such", 1, 0), (0, 1)) == (0, 0, 0.0)


def test_kinds_beyond_the_list_are_counted() -> None:
    tally = MinerTally(miner(price_per_hour=10**6))
    for rate in range(70):
        tally.add(Kind("v100", "gpt2", 1, rate), 70 - rate)
    found = tally.result([], 0, 0)
    assert (len(found.kinds), found.kinds_left_out, found.kinds[0].jobs) == (why.MOST, 20, 70)
    [reason] = found.reasons
    assert (reason.jobs, reason.kinds) == (sum(range(1, 71)), 70)
    assert reason.reason == "2485 jobs pay less than your price: 0.000069 < 1 per GPU and hour"
    assert reason.remedy == "ask for 0.000069 or less"


def test_words_for_one_and_for_several() -> None:
    assert matching.many(1, "job wants", "jobs want") == "1 job wants"
    assert matching.many(3, "job wants", "jobs want") == "3 jobs want"
