"""What agents say of attempts becomes what is recorded of them: started, ended, to be tried again or done."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from provisioner.domain.errors import StaleWrite
from provisioner.domain.facts import AttemptReport, Report
from provisioner.domain.job import Attempt, AttemptPhase, Instance, InstancePhase, Job, Why
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock
from provisioner.domain.store import Event, Store

from .desk import EngineDesk
from .gpu_events import GpuEvents
from .interruptions import Interruptions
from .observe import Observed
from .reruns import Reruns
from .sites import Sites
from .verdicts import Trial, Verdict, forgotten, judge, lost

_WAITS = {"spool": "its output comes faster than it can be sent", "disk": "its machine's disk is full"}


class Attempts:
    """One pass over all live attempts."""

    def __init__(
        self,
        store: Store,
        observed: Observed,
        desk: EngineDesk,
        clock: Clock,
        policy: Policy,
        interruptions: Interruptions,
        reruns: Reruns,
        sites: Sites,
    ) -> None:
        self._store = store
        self._interruptions = interruptions
        self._reruns = reruns
        self._sites = sites
        self._observed = observed
        self._desk = desk
        self._clock = clock
        self._policy = policy
        self._untold: dict[str, datetime] = {}
        self._waits: dict[str, str] = {}
        self._gpu_events = GpuEvents(store, clock)

    async def look(self, live: list[Attempt], instances: Mapping[str, Instance], jobs: Mapping[str, Job]) -> set[str]:
        """Instances on which an attempt ended now."""
        freed = set()
        for attempt in live:
            job = jobs.get(attempt.job_id) or await self._store.jobs.get(attempt.job_id)
            try:
                if await self._look_at(attempt, job, instances.get(attempt.instance_id)):
                    freed.add(attempt.instance_id)
            except StaleWrite:
                self._desk.poke()
        return freed

    async def _look_at(self, attempt: Attempt, job: Job, instance: Instance | None) -> bool:
        if instance is None or instance.phase is InstancePhase.GONE:
            instance = instance or await self._store.instances.get(attempt.instance_id)
            if instance.phase is not InstancePhase.GONE:
                return False
            trial = await self._trial(job, attempt, instance)
            await self._end(trial, lost(trial, self._clock.now()), None)
            return True
        report = self._observed.reports.get(attempt.instance_id)
        if self._surely_over(instance, report):
            if instance.planned_for == job.id:  # which may plan another, though this one is not gone
                instance = await self._store.instances.update(instance, planned_for="")
            trial = await self._trial(job, attempt, instance)
            await self._end(trial, lost(trial, self._clock.now()), None)
            return True
        if report is None:
            return False
        told = next((a for a in report.attempts if (a.job_id, a.number) == (attempt.job_id, attempt.number)), None)
        if told is None:
            return await self._not_told(attempt, job, instance, report.heard_at)
        self._untold.pop(attempt.key, None)
        await self._gpu_events.note(attempt, told)
        if told.phase == "ended":
            trial = await self._trial(job, attempt, instance)
            await self._end(trial, judge(trial, told, self._clock.now()), told)
            return True
        await self._note_wait(attempt, str(told.facts.get("waits_for", "")))
        if told.phase in ("running", "syncing") and attempt.phase is AttemptPhase.ASSIGNED:
            await self._store.jobs.started(attempt, self._clock.now())
        return False

    def _surely_over(self, instance: Instance, report: Report | None) -> bool:
        """Nobody can end the machine, and its agent, had it no controller for so long, has ended its work by itself."""
        bound_s = instance.offer.deadman_bound_s
        if not bound_s or instance.phase is not InstancePhase.STOPPING:
            return False
        heard_at = max(self._observed.silent_from, report.heard_at if report else instance.phase_at)
        return self._clock.now() - heard_at > timedelta(seconds=bound_s)

    async def _note_wait(self, attempt: Attempt, waits_for: str) -> None:
        """An event when a job begins to wait for room for what it writes, and one when it goes on."""
        if waits_for == self._waits.get(attempt.key, ""):
            return
        what = "attempt.waits" if waits_for else "attempt.goes_on"
        message = _WAITS.get(waits_for, waits_for[:40])
        await self._store.records.record(
            Event(what, self._clock.now(), message, attempt.job_id, attempt.number, attempt.instance_id)
        )
        self._waits[attempt.key] = waits_for

    async def _not_told(self, attempt: Attempt, job: Job, instance: Instance, heard_at: datetime) -> bool:
        """Once could be a message from before; for a while, the agent has lost it."""
        if attempt.phase is not AttemptPhase.RUNNING:
            return False
        since = self._untold.setdefault(attempt.key, heard_at)
        if heard_at - since < timedelta(seconds=self._policy.relaunch_after_s):
            return False
        trial = await self._trial(job, attempt, instance)
        await self._end(trial, forgotten(trial), None)
        return True

    async def _trial(self, job: Job, attempt: Attempt, instance: Instance) -> Trial:
        earlier = await self._store.jobs.attempts(job.id) if attempt.number > 1 else []
        limit_s = job.spec.max_lifetime_s or self._policy.lifetime_default_s
        rows = await self._store.runners.of_job(job.id) if job.spec.runner is not None else []
        runner = next((row for row in rows if row.number == attempt.number), None)
        before = [one for one in earlier if one.number < attempt.number]
        return Trial(job, attempt, instance, limit_s, before, runner)

    async def _end(self, trial: Trial, verdict: Verdict, told: AttemptReport | None) -> None:
        attempt, facts = trial.attempt, told.facts if told else {}
        if trial.runner is not None and told is not None and told.runner is not None and told.runner.jobs:
            now = self._clock.now()  # it may have come, and served, while there was no controller to see it
            await self._store.runners.note(trial.runner.name, online_at=now, busy_at=now)
        if verdict.reason.why is Why.PREEMPTED:
            await self._interruptions.lost(attempt, trial.instance, told)
        if verdict.reason.why is Why.VERSION_REFUSED and trial.runner is not None:
            await self._sites.refused(trial.runner.site, facts.get("runner_software"))
        await self._reruns.ended(trial, verdict.reason, told)
        await self._store.jobs.end(
            attempt,
            verdict.reason,
            self._clock.now(),
            exit_code=told.exit_code if told else None,
            outcome=verdict.outcome,
            counts=verdict.counts,
            facts=facts,
            results_complete=bool(facts.get("results_complete")),
            log_complete=bool(facts.get("log_complete")),
        )
        for known in (self._untold, self._waits):
            known.pop(attempt.key, None)
        self._gpu_events.forget(attempt)
        self._desk.ended(attempt)
