"""Why a job is where it is, in sentences: from what was recorded and, while it waits, from the offers as they are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from provisioner.domain.job import Attempt, Job, JobPhase, Reason, Why
from provisioner.domain.place import Ladder
from provisioner.domain.runners import RunnerRow
from provisioner.domain.store import Event

_TOLD = frozenset({"instance.interrupted", "attempt.interrupted"})


def lines(
    job: Job,
    attempts: Sequence[Attempt],
    ladder: Ladder | None,
    now: datetime,
    events: Sequence[Event] = (),
    runners: Sequence[RunnerRow] = (),
) -> list[str]:
    """What a person is told, most important first. `events` and `runners` are the job's."""
    told = [_state(job, now)]
    if job.cancel_asked_at is not None and job.phase is not JobPhase.DONE:
        told.append("its cancellation was asked for and is under way")
    if ladder is not None:
        told.append(_ladder(ladder))
    for attempt in attempts:
        if attempt.ended_at is not None:
            how = _how(attempt.reason, attempt.exit_code)
            told.append(f"attempt {attempt.number} on {attempt.instance_id} ended{how}")
        else:
            told.append(f"attempt {attempt.number} is {attempt.phase} on {attempt.instance_id}")
        told += [f"  its runner {_runner(row, now)}" for row in runners if row.number == attempt.number]
        told += [f"attempt {attempt.number}: {message}" for message in of_gpus(events, attempt)]
        told += [f"  {e.message}" for e in events if e.what in _TOLD and e.attempt == attempt.number]
    for event in events:
        if event.what == "instance.console":
            told += [f"{event.instance_id} never came to work: {event.message}:", *printed(event)]
    if job.spec.retries:
        told.append(f"{job.failures} of {job.spec.retries} retries are used")
    return told


def of_gpus(events: Sequence[Event], attempt: Attempt) -> list[str]:
    """What befell its GPUs."""
    return [one.message for one in events if one.what.startswith("gpu.") and one.attempt == attempt.number]


def _runner(row: RunnerRow, now: datetime) -> str:
    steps = [
        (row.gone_at, f"is not at {row.site} any more"),
        (row.busy_at, f"was given a job of {row.site}"),
        (row.online_at, f"waits for a job at {row.site}"),
    ]
    at, said = next(((at, said) for at, said in steps if at), (row.asked_at, f"is to come to {row.site}"))
    return f"{row.name} {said}, since {_ago(at, now)}{f': {row.reason}' if str(row.reason) else ''}"


def _state(job: Job, now: datetime) -> str:
    reason = f": {job.reason}" if str(job.reason) else ""
    match job.phase:
        case JobPhase.QUEUED:
            return f"{job.id} has waited for {_ago(job.created_at, now)}{reason}"
        case JobPhase.RUNNING:
            return f"{job.id} is running, attempt {job.attempts}"
        case JobPhase.HELD:
            return f"{job.id} is held{reason}"
        case JobPhase.DONE:
            return f"{job.id} is done, {job.outcome}{_how(job.reason, job.exit_code)}"


def _how(reason: Reason, exit_code: int | None) -> str:
    """An exit is said once, in the words of the record when they are there."""
    told = reason.detail if reason.why is Why.EXIT and reason.detail else str(reason)
    code = "" if exit_code is None or f"exit {exit_code}" in told else f"exit {exit_code}"
    said = ", ".join(filter(None, (told, code)))
    return f": {said}" if said else ""


def _ladder(ladder: Ladder) -> str:
    if ladder.best is not None:
        return f"the best offer now is {ladder.best}"
    if ladder.unanswered:
        return f"not every provider could be asked: {'; '.join(ladder.unanswered)}"
    if not ladder.rungs:
        return "no provider offers anything"
    if ladder.over_budget:
        return "every offer that could run it costs more than the cap by itself"
    if ladder.impossible:
        return "none of the known offers could ever run it"
    return "every offer that could run it is refused for now"


def _ago(at: datetime, now: datetime) -> str:
    seconds = max(0, int((now - at).total_seconds()))
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


def printed(event: Event) -> list[str]:
    """The lines of a console, each marked as somebody else's words."""
    return [f"  | {line}" for line in event.data.get("lines", ())]
