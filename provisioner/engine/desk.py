"""Where the web meets the engine: what was heard goes in, what is wanted comes out, nobody waits for a pass.

What is wanted of an instance is computed when it is asked for and kept until something about it changes (`touch`), so
that an idle agent's poll costs no query.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from provisioner.domain.errors import NotFound
from provisioner.domain.facts import AttemptReport, Report
from provisioner.domain.job import Attempt, AttemptPhase, Instance, InstancePhase, Need
from provisioner.domain.place import Ladder
from provisioner.domain.ports import Clock, Store, Wanted, WantedAttempt

from .market import Marketplace
from .observe import Observed


class EngineDesk:
    """The Desk port."""

    def __init__(self, store: Store, observed: Observed, market: Marketplace, clock: Clock) -> None:
        self._store = store
        self._observed = observed
        self._market = market
        self._clock = clock
        self._versions: dict[str, int] = {}
        self._first_version = int(clock.now().timestamp() * 1000)
        self._cached: dict[str, Wanted] = {}
        self._changed: dict[str, asyncio.Event] = {}
        self.woken = asyncio.Event()
        self.poked: set[str] = set()
        self.last_pass_at: datetime | None = None

    def poke(self) -> None:
        self.woken.set()

    def heard(self, instance_id: str, report: Report) -> None:
        before = self._observed.reports.get(instance_id)
        self._observed.reports[instance_id] = report
        if before is not None and replace(before, heard_at=report.heard_at) == report:
            return
        if before is None or _keys(before) != _keys(report):
            self.touch(instance_id)
        self.poked.add(instance_id)
        self.poke()

    def touch(self, instance_id: str) -> None:
        """What is wanted of it may have changed: its agent's poll is answered anew."""
        self._versions[instance_id] = self._version(instance_id) + 1
        self._cached.pop(instance_id, None)
        if changed := self._changed.pop(instance_id, None):
            changed.set()

    async def wait(self, instance_id: str, seen: int, timeout_s: float) -> None:
        if self._version(instance_id) != seen or timeout_s <= 0:
            return
        changed = self._changed.setdefault(instance_id, asyncio.Event())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(changed.wait(), timeout_s)

    async def wanted(self, instance_id: str) -> Wanted:
        if (cached := self._cached.get(instance_id)) is not None:
            return cached
        version = self._version(instance_id)
        try:
            instance = await self._store.instances.get(instance_id)
        except NotFound:
            return Wanted(version, drain=True, end=True)
        wanted = await self._compute(instance, version)
        if self._version(instance_id) == version:
            self._cached[instance_id] = wanted
        return wanted

    async def ladder(self, need: Need, *, force_on_demand: bool = False) -> Ladder:
        return await self._market.ladder(need, force_on_demand=force_on_demand)

    def _version(self, instance_id: str) -> int:
        return self._versions.get(instance_id, self._first_version)

    async def _compute(self, instance: Instance, version: int) -> Wanted:
        live = {a.key: a for a in await self._store.jobs.live_attempts() if a.instance_id == instance.id}
        drain = instance.phase in (InstancePhase.DRAINING, InstancePhase.STOPPING, InstancePhase.GONE)
        wanted = [await self._wanted_attempt(attempt, drain) for attempt in live.values()]
        report = self._observed.reports.get(instance.id)
        for told in report.attempts if report else ():
            if f"{told.job_id}/{told.number}" not in live:
                wanted.append(_unwanted(told, instance))
        end = instance.phase in (InstancePhase.STOPPING, InstancePhase.GONE)
        return Wanted(version, tuple(wanted), drain=drain, end=end)

    async def _wanted_attempt(self, attempt: Attempt, drain: bool) -> WantedAttempt:
        job = await self._store.jobs.get(attempt.job_id)
        cancel = "now" if job.cancel_now else "kindly" if job.cancel_asked_at is not None or drain else ""
        return WantedAttempt(job, attempt, cancel=cancel)


def _unwanted(told: AttemptReport, instance: Instance) -> WantedAttempt:
    """One that the agent has and nobody wants any more: over, or of a dead attempt."""
    stub = Attempt(told.job_id, told.number, instance.id, AttemptPhase.ENDED, instance.created_at)
    return WantedAttempt(None, stub, cancel="" if told.phase == "ended" else "now", forget=True)


def _keys(report: Report) -> Mapping[tuple[str, int], bool]:
    return {(a.job_id, a.number): a.phase == "ended" for a in report.attempts}
