"""Why a miner gets no job, and why a job finds no miner."""

import math

from pithead.core.jobs import Job
from pithead.core.miners import status
from pithead.core.money import units
from pithead.exchange import why
from pithead.http.api import Call, handles
from pithead.http.shapes import number
from pithead.wire import why as wire


@handles("why_miner")
async def why_miner(call: Call) -> wire.MinerWhy:
    report = await why.of_miner(call.exchange, call.path["miner_id"])
    miner, found = report.miner, report.why
    stops = [wire.MinerObstacle(rule=s.rule, reason=s.reason, remedy=s.remedy) for s in found.stops]
    limit = await call.services.pace.exhausted(miner) if call.services.pace is not None else None
    if limit is not None:
        again = f"again in {max(1, math.ceil(limit.reset))} s"
        reason = f"the limit of {limit.rule.limit} job operations in {limit.rule.window} s is reached, {again}"
        remedy = f"wait, or ask the operator for a higher limit; {again}"
        stops.append(wire.MinerObstacle(rule="job_operations", reason=reason, remedy=remedy))
    return wire.MinerWhy(
        miner_id=miner.id,
        status=status(miner).value,
        jobs_assigned=report.held,
        offered=report.offered,
        stops=stops,
        queued=found.queued,
        fits=found.fits,
        avoided=found.avoided,
        resting=found.resting,
        reasons=[
            wire.JobsObstacle(rule=r.rule, wants=r.wants, jobs=r.jobs, kinds=r.kinds, reason=r.reason, remedy=r.remedy)
            for r in found.reasons
        ],
        kinds=[
            wire.KindObstacle(
                gpu_type=k.kind.gpu_type,
                model=k.kind.model,
                gpu_count=k.kind.gpu_count,
                pays=units(k.kind.rate),
                jobs=k.jobs,
                rule=k.rule,
                reason=k.reason,
                remedy=k.remedy,
            )
            for k in found.kinds
        ],
        kinds_left_out=found.kinds_left_out,
    )


@handles("why_job")
async def why_job(call: Call) -> wire.JobWhy:
    owner = None if call.caller.kind == "operator" else call.caller.id
    report = await why.of_job(call.exchange, call.path["job_id"], owner)
    job, found = report.job, report.why
    if found is None:
        return _not_queued(job, report.reason)
    return wire.JobWhy(
        job_id=job.id,
        status=job.state.value,
        reason=report.reason,
        registered=found.registered,
        fits=found.fits,
        ready=found.ready,
        excluded=[wire.MinersExcluded(rule=e.rule, miners=e.miners, reason=e.reason) for e in found.excluded],
        price_for_more=None if found.more_at is None else units(found.more_at.price),
        more_miners=0 if found.more_at is None else found.more_at.miners,
        ahead=report.ahead,
        expected_start=None if report.expected_start is None else number(report.expected_start),
    )


def _not_queued(job: Job, reason: str | None) -> wire.JobWhy:
    return wire.JobWhy(
        job_id=job.id,
        status=job.state.value,
        reason=reason,
        registered=0,
        fits=0,
        ready=0,
        excluded=[],
        price_for_more=None,
        more_miners=0,
        ahead=0,
        expected_start=None,
    )
