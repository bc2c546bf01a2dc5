"""What agents say of attempts becomes what is recorded of them: started, ended, to be tried again or done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from provisioner.domain.errors import StaleWrite
from provisioner.domain.facts import AttemptReport
from provisioner.domain.job import Attempt, AttemptPhase, Instance, InstancePhase, Job, Outcome, Reason, Why
from provisioner.domain.ports import Clock, Store

from .desk import EngineDesk
from .observe import Observed

_NOT_OURS_TO_BLAME = 5  # arbitrary: a job that loses its supervisor this often is its own cause
_NOBODYS_FAULT = frozenset({Why.LOST, Why.PREEMPTED, Why.SUPERVISOR_LOST})
_OUTCOME_OF = {Why.TIMEOUT: Outcome.TIMED_OUT}


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an attempt ended. `outcome` None: the job is tried again; `counts`: against its retries."""

    reason: Reason
    outcome: Outcome | None
    counts: bool = True


def judge(job: Job, report: AttemptReport, instance: Instance) -> Verdict:
    """What the end of an attempt means for its job: pure."""
    why = Why(report.why) if report.why in set(Why) else Why.EXIT
    if report.exit_code == 0 and not report.why:
        return Verdict(Reason(Why.EXIT, "exit 0"), Outcome.SUCCEEDED)
    if job.cancel_asked_at is not None:
        return Verdict(Reason(Why.CANCELLED, report.detail), Outcome.CANCELLED)
    if why is Why.CANCELLED:
        return Verdict(_end_of_machine(instance), None, counts=False)
    if why in _NOBODYS_FAULT and job.attempts - job.failures < _NOT_OURS_TO_BLAME:
        return Verdict(Reason(why, report.detail), None, counts=False)
    detail = report.detail or (f"exit {report.exit_code}" if report.exit_code is not None else "")
    reason = Reason(why or Why.EXIT, detail)
    if job.failures < job.spec.retries:
        return Verdict(reason, None)
    return Verdict(reason, _OUTCOME_OF.get(why, Outcome.FAILED))


def lost(job: Job, instance: Instance | None) -> Verdict:
    """The machine is gone and said nothing more."""
    reason = instance.reason if instance is not None and instance.reason.why else Reason(Why.LOST)
    if reason.why not in _NOBODYS_FAULT:
        reason = Reason(Why.LOST, f"its machine is gone ({reason})")
    if job.cancel_asked_at is not None:
        return Verdict(Reason(Why.CANCELLED, str(reason)), Outcome.CANCELLED)
    return Verdict(reason, None, counts=False)


class Attempts:
    """One pass over all live attempts."""

    def __init__(self, store: Store, observed: Observed, desk: EngineDesk, clock: Clock) -> None:
        self._store = store
        self._observed = observed
        self._desk = desk
        self._clock = clock
        self._told: dict[str, str] = {}

    async def look(self, live: list[Attempt], instances: Mapping[str, Instance], jobs: Mapping[str, Job]) -> set[str]:
        """Instances on which an attempt ended now."""
        freed = set()
        for attempt in live:
            job = jobs.get(attempt.job_id) or await self._store.jobs.get(attempt.job_id)
            self._tell_cancel(attempt, job)
            try:
                if await self._look_at(attempt, job, instances.get(attempt.instance_id)):
                    freed.add(attempt.instance_id)
                    self._told.pop(attempt.key, None)
            except StaleWrite:
                self._desk.poke()
        return freed

    def _tell_cancel(self, attempt: Attempt, job: Job) -> None:
        cancel = "now" if job.cancel_now else "kindly" if job.cancel_asked_at is not None else ""
        if self._told.get(attempt.key, "") != cancel:
            self._told[attempt.key] = cancel
            self._desk.touch(attempt.instance_id)

    async def _look_at(self, attempt: Attempt, job: Job, instance: Instance | None) -> bool:
        if instance is None or instance.phase is InstancePhase.GONE:
            instance = instance or await self._store.instances.get(attempt.instance_id)
            await self._end(attempt, lost(job, instance), None)
            return True
        report = self._observed.reports.get(attempt.instance_id)
        if report is None:
            return False
        told = next((a for a in report.attempts if (a.job_id, a.number) == (attempt.job_id, attempt.number)), None)
        if told is None:
            if attempt.phase is AttemptPhase.RUNNING:
                await self._end(attempt, lost_by_agent(job), None)
                return True
            return False
        if told.phase == "ended":
            await self._end(attempt, judge(job, told, instance), told)
            return True
        if told.phase in ("running", "syncing") and attempt.phase is AttemptPhase.ASSIGNED:
            await self._store.jobs.started(attempt, self._clock.now())
        return False

    async def _end(self, attempt: Attempt, verdict: Verdict, told: AttemptReport | None) -> None:
        facts = told.facts if told else {}
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
        self._desk.touch(attempt.instance_id)


def lost_by_agent(job: Job) -> Verdict:
    """The agent knew the attempt once and does not any more."""
    if job.cancel_asked_at is not None:
        return Verdict(Reason(Why.CANCELLED), Outcome.CANCELLED)
    return Verdict(Reason(Why.SUPERVISOR_LOST, "the agent lost its record of it"), None, counts=False)


def _end_of_machine(instance: Instance) -> Reason:
    if instance.reason.why in (Why.PREEMPTED, Why.LOST):
        return Reason(Why.PREEMPTED, instance.reason.detail)
    return Reason(Why.STOPPED, f"its machine ended ({instance.reason})")
