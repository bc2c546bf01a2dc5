"""Runners that somebody waits for: one that is not online in that time, or whose launch says no more that it waits and
did not see it come, is taken back.

A launch whose command was killed cannot cancel what it asked for. What comes of it late, or never comes and is tried
again and again, would be rented for nobody.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from provisioner.domain.job import Job
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock
from provisioner.domain.store import Event, Store

from .observe import Observed


class Awaited:
    """`turn` once a round."""

    def __init__(self, store: Store, observed: Observed, clock: Clock, policy: Policy) -> None:
        self._store = store
        self._observed = observed
        self._clock = clock
        self._policy = policy
        self._came: set[str] = set()

    async def turn(self, jobs: Collection[Job]) -> bool:
        """Whether any was given up."""
        self._came &= {job.id for job in jobs}
        coming = [job for job in jobs if job.id not in self._came and _is_waited_for(job)]
        asked = [job.id for job in coming if job.spec.runner is not None and job.spec.runner.awaited]
        heard = await self._store.runners.waited_for(asked) if asked else {}
        self._came |= {job_id for job_id, at in heard.items() if at is None}
        moved = False
        for job in (job for job in coming if job.id not in self._came):
            if why := self._overdue(job, heard.get(job.id)):
                moved |= await self._give_up(job, why)
        return moved

    def _overdue(self, job: Job, heard_at: datetime | None) -> str:
        """Why it is not waited for any longer. Nobody could say anything while there was no controller."""
        now, spec = self._clock.now(), job.spec.runner
        if spec is None:
            return ""
        if spec.online_within_s is not None and (now - job.created_at).total_seconds() >= spec.online_within_s:
            return f"not online within {spec.online_within_s:g} s"
        latest = max(heard_at or job.created_at, self._observed.silent_from)
        silent = spec.awaited and (now - latest).total_seconds() >= self._policy.awaited_s
        return f"nobody has waited for it for {self._policy.awaited_s:g} s" if silent else ""

    async def _give_up(self, job: Job, why: str) -> bool:
        """Not one that has been online once, unless somebody had to see it: what became of it is another matter."""
        may_be_unseen = job.spec.runner is not None and not job.spec.runner.awaited
        if may_be_unseen and any(row.online_at is not None for row in await self._store.runners.of_job(job.id)):
            self._came.add(job.id)
            return False
        now = self._clock.now()
        await self._store.records.record(Event("runner.late", now, why, job.id))
        await self._store.jobs.ask_cancel(job.id, now)
        return True


def _is_waited_for(job: Job) -> bool:
    spec = job.spec.runner
    waited_for = spec is not None and (spec.awaited or spec.online_within_s is not None)
    return waited_for and job.cancel_asked_at is None
