"""Where the web meets the engine: what was heard goes in, what is wanted comes out, nobody waits for a pass.

What is wanted of an instance is computed when it is asked for and kept until something about it changes (`touch`), so
that an idle agent's poll costs no query. Each pass shows the desk what it saw; what another controller changed is
noticed there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from provisioner.domain.errors import NotFound
from provisioner.domain.facts import AttemptReport, Report
from provisioner.domain.handing import HandOver
from provisioner.domain.job import Attempt, AttemptPhase, Instance, InstancePhase, Job, Need, Why
from provisioner.domain.place import Ladder
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock, Wanted, WantedAttempt
from provisioner.domain.runners import stuck
from provisioner.domain.store import Store

from .market import Marketplace
from .observe import Observed

_LEAVING = (InstancePhase.DRAINING, InstancePhase.STOPPING, InstancePhase.GONE)


class EngineDesk:
    """The Desk port."""

    def __init__(self, store: Store, observed: Observed, market: Marketplace, clock: Clock, policy: Policy) -> None:
        self._store = store
        self._observed = observed
        self._market = market
        self._clock = clock
        self._policy = policy
        self._versions: dict[str, int] = {}
        self._first_version = int(clock.now().timestamp() * 1000)
        self._cached: dict[str, Wanted] = {}
        self._changed: dict[str, asyncio.Event] = {}
        self._marks: dict[str, object] = {}
        self._live: dict[str, Attempt] | None = None
        self._handing: dict[str, HandOver] = {}
        self.woken = asyncio.Event()
        self.poked: set[str] = set()
        self.last_pass_at: datetime | None = None

    def poke(self) -> None:
        self.woken.set()

    async def pause(self, effects: Collection[asyncio.Task[Any]], timeout_s: float) -> None:
        """Until all of them are done, unless there is something else to do before. Those that take longer poke."""
        woken = asyncio.ensure_future(self.woken.wait())
        all_done = asyncio.ensure_future(asyncio.wait(effects))
        try:
            await asyncio.wait((woken, all_done), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
            all_done.cancel()
        for late in effects:
            if not late.done():
                late.add_done_callback(lambda _: self.poke())

    def heard(self, instance_id: str, report: Report) -> None:
        before = self._observed.reports.get(instance_id)
        if before is not None and _is_older(report, before):
            return
        self._observed.reports[instance_id] = report
        if before is not None and _telling(before) == _telling(report):
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

    def shown(self, instances: Collection[Instance], live: Collection[Attempt], jobs: Mapping[str, Job]) -> None:
        """What a pass has read: whatever differs from before is touched, whoever changed it."""
        self._live = {attempt.instance_id: attempt for attempt in live}
        marks: dict[str, object] = {}
        for instance in instances:
            attempt = self._live.get(instance.id)
            job = jobs.get(attempt.job_id) if attempt else None
            asked = (job.cancel_asked_at is not None, job.cancel_now) if job else None
            marks[instance.id] = (instance.phase, attempt.key if attempt else "", asked)
        for key in marks.keys() | self._marks.keys():
            if marks.get(key) != self._marks.get(key):
                self.touch(key)
        self._marks = marks

    def assigned(self, attempt: Attempt) -> None:
        if self._live is not None:
            self._live[attempt.instance_id] = attempt
        self.touch(attempt.instance_id)

    def ended(self, attempt: Attempt) -> None:
        if self._live is not None:
            self._live.pop(attempt.instance_id, None)
        self.touch(attempt.instance_id)

    def hand_over(self, instance_id: str, order: HandOver) -> None:
        """Its agent is told, until it is told something else."""
        if self._handing.get(instance_id) != order:
            self._handing[instance_id] = order
            self.touch(instance_id)

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
        drain = instance.phase in _LEAVING
        wanted = []
        if (attempt := await self._attempt_on(instance)) is not None:
            wanted.append(await self._wanted_attempt(attempt, drain))
        report = self._observed.reports.get(instance.id)
        for told in report.attempts if report else ():
            if attempt is None or (told.job_id, told.number) != (attempt.job_id, attempt.number):
                wanted.append(await self._unlisted(told, instance, drain))
        end = instance.phase in (InstancePhase.STOPPING, InstancePhase.GONE)
        handing = self._handing.get(instance.id) if instance.phase is InstancePhase.READY else None
        return Wanted(version, tuple(wanted), drain=drain, end=end, hand_over=handing)

    async def _attempt_on(self, instance: Instance) -> Attempt | None:
        if self._live is not None:
            return self._live.get(instance.id)
        return next((a for a in await self._store.jobs.live_attempts() if a.instance_id == instance.id), None)

    async def _wanted_attempt(self, attempt: Attempt, drain: bool) -> WantedAttempt:
        job = await self._store.jobs.get(attempt.job_id)
        cancel = "now" if job.cancel_now else "kindly" if job.cancel_asked_at is not None or drain else ""
        if job.spec.runner is not None and not job.cancel_now:
            cancel = await self._cancel_of_runner(attempt, cancel)
        return WantedAttempt(job, attempt, cancel=cancel)

    async def _cancel_of_runner(self, attempt: Attempt, otherwise: str) -> str:
        """A runner is stopped once its forge gives it no job any more: before, one could be given to it meanwhile. When
        the cloud takes its machine there is no time for that, and a forge that does not answer is not waited for long:
        its agent stops none that works."""
        rows = await self._store.runners.of_job(attempt.job_id)
        row = next((one for one in rows if one.number == attempt.number), None)
        if row is None:
            return otherwise
        if row.gone_at is not None or stuck(row, self._clock.now(), self._policy):
            return "kindly"
        instance = await self._store.instances.get(attempt.instance_id)
        return otherwise if instance.reason.why is Why.PREEMPTED else ""

    async def _unlisted(self, told: AttemptReport, instance: Instance, drain: bool) -> WantedAttempt:
        """One that the agent has and the last pass did not show. Only the store may say that nobody wants it."""
        try:
            attempt = await self._store.jobs.attempt(told.job_id, told.number)
        except NotFound:
            attempt = Attempt(told.job_id, told.number, instance.id, AttemptPhase.ENDED, instance.created_at)
        if attempt.phase is not AttemptPhase.ENDED and attempt.instance_id == instance.id:
            return await self._wanted_attempt(attempt, drain)
        return WantedAttempt(None, attempt, cancel="" if told.phase == "ended" else "now", forget=True)


def _is_older(report: Report, before: Report) -> bool:
    """A message that was overtaken on its way, or repeated."""
    return report.boot_id == before.boot_id and 0 < report.sequence < before.sequence


def _telling(report: Report) -> Report:
    """The report less what changes all the time and decides nothing."""
    attempts = tuple(_telling_attempt(told) for told in report.attempts)
    unsent = min(report.unsent_bytes, 1)
    return replace(report, heard_at=datetime.max, sequence=0, attempts=attempts, unsent_bytes=unsent)


def _telling_attempt(told: AttemptReport) -> AttemptReport:
    if told.phase == "ended":
        return told
    runner = replace(told.runner, idle_s=0.0) if told.runner is not None else None
    return replace(told, log_size=0, facts={}, runner=runner)


def _keys(report: Report) -> Mapping[tuple[str, int], bool]:
    return {(a.job_id, a.number): a.phase == "ended" for a in report.attempts}
