"""How an attempt ended, and what that means for its job: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from provisioner.domain.facts import AttemptReport
from provisioner.domain.job import Attempt, Instance, Job, Outcome, Reason, Why
from provisioner.domain.runners import RunnerRow

_ITS_OWN_CAUSE = 5  # arbitrary: a job that takes its supervisor or its machine with it this often does it itself
_MOST_OF_ITS_OWN = 0.5  # arbitrary: of its lifetime, booting takes up to the rest
_MOST_OF_ANY = 0.8  # arbitrary: the same of one that others had used before
_NOBODYS_FAULT = frozenset({Why.LOST, Why.PREEMPTED, Why.SUPERVISOR_LOST})
_SUSPICIOUS = frozenset({Why.LOST, Why.SUPERVISOR_LOST, Why.FORGE})
_ENDS_MACHINE = frozenset({Why.PREEMPTED, Why.LIFETIME, Why.STOPPED, Why.LOST})
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
    lifetime that a machine of its own has; `runner` is what it was at its forge, if it was a runner."""

    job: Job
    attempt: Attempt
    instance: Instance
    limit_s: float
    earlier: Sequence[Attempt] = ()
    runner: RunnerRow | None = None


def judge(trial: Trial, report: AttemptReport, at: datetime) -> Verdict:
    """What the end that the agent tells of means for the job."""
    if trial.job.spec.runner is not None and (verdict := _of_runner(trial, report, at)) is not None:
        return verdict
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


def _of_runner(trial: Trial, report: AttemptReport, at: datetime) -> Verdict | None:
    """None where it ended as any job may. A runner that was to serve many jobs makes room for its successor."""
    spec, row = trial.job.spec.runner, trial.runner
    asked = trial.job.cancel_asked_at is not None
    if report.runner is not None and report.runner.phase == "done" and report.runner.jobs:
        done = Outcome.CANCELLED if asked else Outcome.SUCCEEDED
        more = spec is not None and spec.jobs == "many" and not asked
        return Verdict(Reason(Why.SERVED, "it served its job"), None if more else done, counts=False)
    if asked:
        return None
    if row is not None and row.reason.why in _ENDS_MACHINE:  # it was removed first, and its program ended by that
        return _machine_ended(trial, at)
    if row is not None and row.reason.why is Why.IDLE:
        served = any(attempt.reason.why is Why.SERVED for attempt in trial.earlier)
        return Verdict(row.reason, Outcome.SUCCEEDED if served else Outcome.EXPIRED)
    if report.why in (Why.FORGE, Why.VERSION_REFUSED):
        return Verdict(Reason(Why(report.why), report.detail), Outcome.FAILED)
    if report.why in ("", Why.EXIT):
        return _again(trial, Reason(Why.FORGE, f"its program ended with {report.exit_code} and had no job"))
    return None


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
    noticed_s = (at - trial.attempt.assigned_at).total_seconds()  # however long that took: nobody lives on meanwhile
    had_s = min(noticed_s, trial.instance.max_lifetime_s)
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
