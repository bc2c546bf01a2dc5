"""What agents say of attempts becomes what is recorded of them: started, ended, to be tried again or done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from provisioner.domain.errors import StaleWrite
from provisioner.domain.facts import AttemptReport, Report
from provisioner.domain.job import Attempt, AttemptPhase, Instance, InstancePhase, Job, Outcome, Reason, Why
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock, Event, Store

from .desk import EngineDesk
from .gpu_events import GpuEvents
from .interruptions import Interruptions
from .observe import Observed

_ITS_OWN_CAUSE = 5  # arbitrary: a job that takes its supervisor or its machine with it this often does it itself
_MOST_OF_ITS_OWN = 0.5  # arbitrary: of its lifetime, booting takes up to the rest
_MOST_OF_ANY = 0.8  # arbitrary: the same of one that others had used before
_NOBODYS_FAULT = frozenset({Why.LOST, Why.PREEMPTED, Why.SUPERVISOR_LOST})
_SUSPICIOUS = frozenset({Why.LOST, Why.SUPERVISOR_LOST})
_WAITS = {"spool": "its output comes faster than it can be sent", "disk": "its machine's disk is full"}
_GAP = "what it had not sent yet is lost"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an attempt ended. `outcome` None: the job is tried again; `counts`: against its retries."""

    reason: Reason
    outcome: Outcome | None
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Trial:
    """One attempt with all that its end is judged by. `earlier` are the attempts of the job before it; `limit_s` is the
    lifetime that a machine of its own has."""

    job: Job
    attempt: Attempt
    instance: Instance
    limit_s: float
    earlier: Sequence[Attempt] = ()


def judge(trial: Trial, report: AttemptReport, at: datetime) -> Verdict:
    """What the end that the agent tells of means for the job: pure."""
    why = Why(report.why) if report.why in set(Why) else Why.EXIT
    if report.exit_code == 0 and why in (Why.NONE, Why.EXIT):
        return Verdict(Reason(Why.EXIT, "exit 0"), Outcome.SUCCEEDED)
    if trial.job.cancel_asked_at is not None:
        return Verdict(Reason(Why.CANCELLED, report.detail), Outcome.CANCELLED)
    if why is Why.CANCELLED:
        return _machine_ended(trial, at)
    if why in _NOBODYS_FAULT:
        return _again(trial, Reason(why, report.detail))
    if why is Why.TIMEOUT:
        return Verdict(Reason(why, report.detail), Outcome.TIMED_OUT)
    detail = report.detail or (f"exit {report.exit_code}" if report.exit_code is not None else "")
    return _failed(trial, Reason(why or Why.EXIT, detail))


def lost(trial: Trial, at: datetime) -> Verdict:
    """The machine is gone and said nothing more."""
    reason = trial.instance.reason
    if trial.job.cancel_asked_at is not None:
        return Verdict(Reason(Why.CANCELLED, f"its machine is gone; {_GAP}"), Outcome.CANCELLED)
    if reason.why is Why.LIFETIME:
        return _outlived(trial, at, f"{reason.detail}; {_GAP}")
    why = reason.why if reason.why in _NOBODYS_FAULT else Why.LOST
    return _again(trial, Reason(why, f"its machine is gone ({reason}); {_GAP}"))


def forgotten(trial: Trial) -> Verdict:
    """The agent knew the attempt once and does not any more."""
    if trial.job.cancel_asked_at is not None:
        return Verdict(Reason(Why.CANCELLED), Outcome.CANCELLED)
    return _again(trial, Reason(Why.SUPERVISOR_LOST, f"the agent lost its record of it; {_GAP}"))


def _machine_ended(trial: Trial, at: datetime) -> Verdict:
    """Stopped because its machine was to end: not the job's fault, unless it would outlive any."""
    reason = trial.instance.reason
    if reason.why is Why.LIFETIME:
        return _outlived(trial, at, reason.detail)
    if reason.why in (Why.PREEMPTED, Why.LOST):
        return Verdict(Reason(Why.PREEMPTED, reason.detail), None, counts=False)
    return Verdict(Reason(Why.STOPPED, f"its machine ended ({reason})"), None, counts=False)


def _outlived(trial: Trial, at: datetime, detail: str) -> Verdict:
    """Fails if another machine would end in the same way; what had only the rest of another job's is tried again."""
    had_s = (at - trial.attempt.assigned_at).total_seconds()
    share = _MOST_OF_ITS_OWN if trial.instance.planned_for == trial.job.id else _MOST_OF_ANY
    before = sum(attempt.reason.why is Why.LIFETIME for attempt in trial.earlier)
    if had_s >= share * trial.limit_s or before + 1 >= _ITS_OWN_CAUSE:
        return _failed(trial, Reason(Why.LIFETIME, detail))
    return Verdict(Reason(Why.LIFETIME, f"{detail}, of which this job had {had_s:.0f} s"), None, counts=False)


def _again(trial: Trial, reason: Reason) -> Verdict:
    """Tried again outside `retries`, unless it has happened so often that the job itself must be the cause."""
    before = sum(attempt.reason.why in _SUSPICIOUS for attempt in trial.earlier)
    if reason.why in _SUSPICIOUS and before + 1 >= _ITS_OWN_CAUSE:
        return _failed(trial, replace(reason, detail=f"{reason.detail} ({before + 1} times)"))
    return Verdict(reason, None, counts=False)


def _failed(trial: Trial, reason: Reason) -> Verdict:
    return Verdict(reason, None if trial.job.failures < trial.job.spec.retries else Outcome.FAILED)


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
    ) -> None:
        self._store = store
        self._interruptions = interruptions
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
        return Trial(job, attempt, instance, limit_s, [one for one in earlier if one.number < attempt.number])

    async def _end(self, trial: Trial, verdict: Verdict, told: AttemptReport | None) -> None:
        attempt, facts = trial.attempt, told.facts if told else {}
        if verdict.reason.why is Why.PREEMPTED:
            await self._interruptions.lost(attempt, trial.instance, told)
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
