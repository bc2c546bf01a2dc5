"""Running again what a machine cut short: which CI jobs, for how long it is tried, and what waits for it: pure.

A forge runs a job again only once its whole run has ended, which may take hours. The wish is written down before the
attempt's end is, and asked for until the forge has done it, or it is too late.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from .facts import AttemptReport
from .forge import CiJob, CiJobState, Site
from .job import Attempt, Instance, Job, JobPhase, Reason, Why
from .policy import Policy
from .pools import NAMED
from .runners import RunnerRow

_TAKEN = frozenset({Why.PREEMPTED, Why.LOST, Why.SUPERVISOR_LOST})
_ENDED_WELL = frozenset({"success", "skipped", "neutral"})


class RerunOutcome(StrEnum):
    """How the wish ended. `asked`: the forge runs it again."""

    NONE = ""
    ASKED = "asked"
    NOT_NEEDED = "not needed"
    TOO_OFTEN = "too often"
    TOO_LATE = "too late"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Rerun:
    """The CI job that one runner was given. `lost_at`: when it was found to be cut short, and is to be run again;
    `forge_id` is the runner's; `ci_name` what its program called the job. `ci_id`, `ci_attempt` and `ci_name` are what
    its forge calls it, once that is known; `tries` counts the times that
    the forge was asked in vain."""

    runner: str
    site: Site
    job_id: str
    number: int
    forge_id: str = ""
    repository: str = ""
    run_id: str = ""
    ci_id: str = ""
    ci_attempt: int = 0
    ci_name: str = ""
    lost_at: datetime | None = None
    tries: int = 0
    done_at: datetime | None = None
    outcome: RerunOutcome = RerunOutcome.NONE

    @property
    def pending(self) -> bool:
        return self.lost_at is not None and self.done_at is None


class Reruns(Protocol):
    """What runners were given, and what of it is to be run again.

    - S13 a runner has one row; what `given` and `lost` say first stays. S14 a row is `pending` from when it is lost
      until it is done, and how it was done stays. S15 `asked` counts what was run again of one job of one run, by its
      name, whatever its forge calls each of its runs. S16 `lost_in` are those of these runs that were lost, at
      whichever forge, and whatever became of them.
    """

    async def given(self, row: RunnerRow, repository: str, run_id: str, name: str) -> None: ...
    async def lost(self, row: RunnerRow, at: datetime) -> None: ...
    async def found(self, runner: str, job: CiJob) -> None: ...
    async def tried(self, runner: str, tries: int) -> None: ...
    async def done(self, runner: str, outcome: RerunOutcome, at: datetime) -> None: ...
    async def pending(self) -> list[Rerun]:
        """Oldest first."""
        ...

    async def of_job(self, job_id: str) -> list[Rerun]: ...
    async def asked(self, rerun: Rerun) -> int: ...
    async def lost_in(self, run_ids: Collection[str]) -> list[Rerun]: ...


def believable(site: Site, repository: str, run_id: str) -> bool:
    """Whether what a machine says of its job can be: our rights at a forge may reach further than its runner's site."""
    here, there = f"{site.path}/".lower().lstrip("/"), f"{repository}/".lower()
    return run_id.isascii() and run_id.isdigit() and there.startswith(here) and ".." not in there


def cut_short(
    job: Job, instance: Instance, row: RunnerRow | None, reason: Reason, told: AttemptReport | None, *, begun: bool
) -> bool:
    """Whether the attempt that ends for `reason` had a CI job, and lost it with its machine: through nobody's will, and
    not by a limit that would end it again. `begun`: a webhook told of such a job. A forge may be heard of a job before
    the agent that was given it, and an agent that still waits for its first may be heard no more."""
    if row is None or job.cancel_asked_at is not None or instance.stop_asked_at is not None:
        return False
    unhealthy = reason.why is Why.STOPPED and instance.reason.why is Why.UNHEALTHY
    if reason.why not in _TAKEN and not unhealthy:
        return False
    said = told.runner if told is not None else None
    if said is None or (said.phase == "waiting" and said.jobs == 0):
        return begun or row.busy_at is not None
    return said.phase == "busy"


def taken_away(job: Job, attempts: Sequence[Attempt], reruns: Sequence[Rerun]) -> int:
    """How many of a job's attempts lost a machine that was taken back. Of a runner's, those that vanished count, too,
    and whatever else had its CI job run again: that is not to be cut short in the same way a second time."""
    whys = {Why.PREEMPTED} if job.spec.runner is None else {Why.PREEMPTED, Why.LOST}
    lost = {attempt.number for attempt in attempts if attempt.reason.why in whys}
    again = {rerun.number for rerun in reruns if rerun.lost_at and rerun.outcome is not RerunOutcome.NOT_NEEDED}
    return len(lost | again)


def losses_before(job: CiJob, reruns: Iterable[Rerun]) -> int:
    """How often a machine was lost with this job of this run before, whoever had it run again after that."""
    return sum(_lost_before(job, rerun) for rerun in reruns)


def _lost_before(job: CiJob, rerun: Rerun) -> bool:
    if rerun.lost_at is None or not rerun.ci_id or rerun.outcome is RerunOutcome.NOT_NEEDED:
        return False
    if (job.site.base, job.run_id, job.name) != (rerun.site.base, rerun.run_id, rerun.ci_name):
        return False
    another = job.attempt > rerun.ci_attempt or job.id != rerun.ci_id  # at some forges it is a new job
    return job.repository.lower() == rerun.repository.lower() and another


def unneeded(rerun: Rerun, now_is: CiJob) -> RerunOutcome:
    """Why it need not be run again, whatever became of its machine."""
    if now_is.attempt > rerun.ci_attempt:
        return RerunOutcome.ASKED
    ended_well = now_is.state is CiJobState.DONE and now_is.conclusion in _ENDED_WELL
    return RerunOutcome.NOT_NEEDED if ended_well else RerunOutcome.NONE


def too_late(rerun: Rerun, now: datetime, policy: Policy) -> bool:
    return rerun.lost_at is not None and now - rerun.lost_at > timedelta(seconds=policy.rerun_within_s)


def given_up(job: Job) -> bool:
    """Whether the runner that would serve it is over or cancelled. A pool ends its own as it likes: others serve."""
    return (job.cancel_asked_at is not None or job.phase is JobPhase.DONE) and not _of_pool(job)


def held_back(job: Job) -> bool:
    """Whether a runner job whose CI job is to be run again gets no machine before it is: what serves one job only would
    wait for hours, on a machine that is paid for, or idle out. One that serves many must be there for the others of its
    run, which could not end without it; a pool is told of the rerun like of any job, and counts on those it has."""
    spec = job.spec.runner
    return spec is not None and spec.jobs == "one" and not _of_pool(job) and job.cancel_asked_at is None


def _of_pool(job: Job) -> bool:
    return job.spec.name.startswith(NAMED)
