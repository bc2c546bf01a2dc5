"""Runners that somebody waits for: one that is not online in that time is taken back, whoever waited may be gone.

A launch whose command was killed cannot cancel what it asked for. What comes of it late, or never comes and is tried
again and again, would be rented for nobody.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from provisioner.domain.job import Job
from provisioner.domain.ports import Clock
from provisioner.domain.store import Event, Store


class Awaited:
    """`turn` once a round."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._came: set[str] = set()

    async def turn(self, jobs: Collection[Job]) -> bool:
        """Whether any was given up."""
        self._came &= {job.id for job in jobs}
        moved = False
        for job in jobs:
            if job.id not in self._came and self._overdue(job):
                moved |= await self._give_up(job)
        return moved

    def _overdue(self, job: Job) -> bool:
        spec = job.spec.runner
        if spec is None or spec.online_within_s is None or job.cancel_asked_at is not None:
            return False
        return self._clock.now() - job.created_at >= timedelta(seconds=spec.online_within_s)

    async def _give_up(self, job: Job) -> bool:
        """Not one that has been online once: what became of it since is another matter."""
        if any(row.online_at is not None for row in await self._store.runners.of_job(job.id)):
            self._came.add(job.id)
            return False
        now, spec = self._clock.now(), job.spec.runner
        within_s = spec.online_within_s if spec is not None else 0
        await self._store.records.record(Event("runner.late", now, f"not online within {within_s:g} s", job.id))
        await self._store.jobs.ask_cancel(job.id, now)
        return True
