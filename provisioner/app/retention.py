"""Forgetting, on purpose and on schedule: logs, objects, events and readings past what the settings keep."""

from __future__ import annotations

from datetime import datetime, timedelta

from provisioner.domain.job import Job, JobPhase
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Logs, Objects
from provisioner.domain.store import Store

_EVERY_S = 3600.0
_EPOCH = "1970-01-01T00:00:00+00:00"


class Retention:
    """`run_once` drops what is past its time; what was dropped up to is remembered, so that a pass is cheap."""

    every_s = _EVERY_S

    def __init__(self, store: Store, logs: Logs, objects: Objects, policy: Policy) -> None:
        self._store, self._logs, self._objects, self._policy = store, logs, objects, policy

    async def run_once(self, now: datetime) -> None:
        policy = self._policy
        await self._store.records.prune(
            events_before=now - timedelta(seconds=policy.events_keep_s),
            readings_before=now - timedelta(seconds=policy.readings_keep_s),
        )
        jobs = await self._store.jobs.find(phases=(JobPhase.DONE,), limit=100_000)
        for kind, keep_s, drop in (
            ("logs", policy.logs_keep_s, self._drop_logs),
            ("objects", policy.objects_keep_s, self._drop_objects),
        ):
            before = now - timedelta(seconds=keep_s)
            mark = f"retention.{kind}"
            since = datetime.fromisoformat(await self._store.records.meta(mark) or _EPOCH)
            for job in jobs:
                if job.ended_at is not None and since <= job.ended_at < before:
                    await drop(job)
            await self._store.records.set_meta(mark, before.isoformat())
        await self._drop_published(now)

    async def _drop_published(self, now: datetime) -> None:
        """Images that were published belong to no job; the day is in their names. Looked at once a day."""
        mark, today = "retention.published", now.date().isoformat()
        if await self._store.records.meta(mark) == today:
            return
        before = (now - timedelta(seconds=self._policy.objects_keep_s)).date().isoformat()
        old = [found.key for found in await self._objects.under("published/") if found.key.split("/")[1] < before]
        await self._objects.delete(old)
        await self._store.records.set_meta(mark, today)

    async def _drop_logs(self, job: Job) -> None:
        for number in range(1, job.attempts + 1):
            await self._logs.delete(job.id, number)

    async def _drop_objects(self, job: Job) -> None:
        for prefix in (f"results/{job.id}/", f"checkpoints/{job.id}/"):
            await self._objects.delete([found.key for found in await self._objects.under(prefix)])
        for area in ("results", "checkpoints"):
            for row in await self._store.records.manifests(job.id, area):
                await self._store.records.drop_manifest(row)
