"""Having one job run: with its files, for as long as it may, and with nothing but `RunFailed` to be told of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path

from pithead.agent.cache import Cache
from pithead.agent.line import Line
from pithead.agent.runners.base import Report, RunFailed, Runner, RunResult, takes_files, task_of
from pithead.client import AsyncMinerClient, Unauthorized
from pithead.wire.miners import Assignment, JobLimits

log = logging.getLogger(__name__)


class Runs:
    """One for all runs of an agent."""

    def __init__(self, runner: Runner, cache: Cache | None, client: AsyncMinerClient, line: Line) -> None:
        self._runner, self._cache, self._client, self._line = runner, cache, client, line

    async def run(self, assignment: Assignment, report: Report) -> RunResult:
        """Have it run, for as long as the attempt may take. Raises `RunFailed`, and `Unauthorized`."""
        limit, asked = asyncio.timeout(assignment.attempt_expires_in), assignment.limits or JobLimits()
        own = asyncio.timeout(None)
        try:
            async with limit, self._files_of(assignment, report) as files, own:
                if asked.wall_clock_seconds is not None:
                    # From here on: what it took to fetch its files is no time of the job's own.
                    own.reschedule(asyncio.get_running_loop().time() + asked.wall_clock_seconds)
                result = await self._runner.run(task_of(assignment, files), report)
            if asked.output_bytes is not None and len(result.data) > asked.output_bytes:
                raise RunFailed(
                    "error", f"the result is longer than the {asked.output_bytes} bytes that the job allows"
                )
            return result
        except (RunFailed, Unauthorized):
            raise
        except Exception:
            if own.expired():
                raise RunFailed("timeout", f"not done within the job's own {asked.wall_clock_seconds:g} s") from None
            if limit.expired():
                raise RunFailed("timeout", f"not done within {assignment.attempt_expires_in:.0f} s") from None
            log.exception("%s: the runner broke", assignment.job_id)
            raise RunFailed("error", "the runner broke; the miner's log says how") from None

    def _files_of(
        self, assignment: Assignment, report: Report
    ) -> contextlib.AbstractAsyncContextManager[Mapping[str, Path]]:
        """The job's input files, for as long as it runs. Raises `RunFailed`, before anything is fetched for nothing."""
        files = assignment.input_files
        if not files:
            return contextlib.nullcontext({})
        if self._cache is None or not takes_files(self._runner, assignment.model):
            raise RunFailed("bad_input", f"{assignment.model} makes no use of input files; submit the job without them")
        return self._cache.holding(self._client, self._line, assignment.job_id, assignment.lease_token, files, report)
