"""What the forge has: repositories with runs and jobs, and the records of runners. Verbs change it, under one lock.

Nothing here is HTTP. A *scope* is where a runner is registered: "acme/vision" or "acme".
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from provisioner.domain.forge import serves

_LONG_AGO = float("-inf")


class Time(Protocol):
    def now(self) -> datetime: ...
    def monotonic(self) -> float: ...


@dataclass
class Record:
    """A runner. `session`: its program has come; `heard_s` when it was last heard; `set_id`: of a scale set."""

    id: int
    name: str
    scope: str
    labels: list[str]
    group_id: int
    token: str
    made_s: float
    session: str = ""
    version: str = ""
    heard_s: float = _LONG_AGO
    job: int = 0
    gone_s: float | None = None
    set_id: int = 0


@dataclass
class Job:
    id: int
    run_id: int
    attempt: int
    name: str
    labels: list[str]
    created_at: datetime
    started_at: datetime
    made_s: float
    status: str = "queued"
    conclusion: str | None = None
    completed_at: datetime | None = None
    runner: Record | None = None
    heard_s: float = _LONG_AGO
    cancelled: bool = False
    steps: list[dict[str, str]] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)


@dataclass
class Run:
    """`jobs` of every attempt, by its number. `head` is where its commits come from."""

    id: int
    repository: str
    head: str
    branch: str
    event: str
    created_at: datetime
    attempt: int = 1
    jobs: dict[int, list[Job]] = field(default_factory=dict)

    @property
    def latest(self) -> list[Job]:
        return self.jobs.get(self.attempt, [])

    @property
    def status(self) -> str:
        """Source: kedacore/keda issue 5788, 2024: with a job that waits for an approval, a run is `waiting`, whatever
        its other jobs do; that `pending` goes before the rest in the same way is a guess."""
        states = {job.status for job in self.latest}
        if states <= {"completed"}:
            return "completed"
        if held := next((state for state in ("waiting", "pending") if state in states), None):
            return held
        return "in_progress" if len(states) > 1 or "in_progress" in states else next(iter(states))

    @property
    def conclusion(self) -> str | None:
        if self.status != "completed":
            return None
        ends = {job.conclusion for job in self.latest}
        return next((end for end in ("failure", "cancelled") if end in ends), "success")


class State:
    """`told` is called, outside the lock, with what happened to a job or a run: its event's name and action."""

    def __init__(self, clock: Time, told: Callable[[str, str, Run, Job | None], None]) -> None:
        self.clock = clock
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.repositories: dict[str, int] = {}
        self.records: list[Record] = []
        self.runs: dict[int, Run] = {}
        self.jobs: dict[int, Job] = {}
        self.ids = itertools.count(101)
        self.lag_s = 0.0
        self.may: Callable[[Job, Record], bool] = lambda job, record: True
        self._told = told

    def next_id(self) -> int:
        with self.lock:
            return next(self.ids)

    def now(self) -> datetime:
        return self.clock.now().astimezone(UTC).replace(microsecond=0)

    # runners

    def register(self, scope: str, name: str, labels: list[str], group_id: int = 1) -> Record | None:
        """None: there is one of that name."""
        with self.lock:
            if any(record.name == name for record in self.living(scope)):
                return None
            number = next(self.ids)
            made = Record(number, name, scope, labels, group_id, f"runner-secret-{number}", self.clock.monotonic())
            self.records.append(made)
            return made

    def living(self, scope: str) -> list[Record]:
        return [record for record in self.records if record.scope == scope and record.gone_s is None]

    def listed(self, scope: str) -> list[Record]:
        """What a listing shows: late, both ways."""
        with self.lock:
            then = self.clock.monotonic() - self.lag_s
            return [
                record
                for record in self.records
                if record.scope == scope and record.made_s <= then and (record.gone_s is None or record.gone_s > then)
            ]

    def find(self, scope: str, number: int) -> Record | None:
        with self.lock:
            return next((record for record in self.living(scope) if record.id == number), None)

    def remove(self, record: Record) -> bool:
        """False: it has a job."""
        with self.changed:
            if record.job:
                return False
            record.gone_s, record.session = self.clock.monotonic(), ""
            self.changed.notify_all()
            return True

    # jobs

    def add_run(
        self, repository: str, jobs: list[list[str]], *, head: str = "", event: str = "push", branch: str = "main"
    ) -> Run:
        """A run whose jobs, one for each list of labels, wait."""
        with self.lock:
            number = next(self.ids)
            run = Run(number, repository, head or repository, branch, event, self.now())
            self.runs[number] = run
            run.jobs[1] = [self._new_job(run, f"job-{at}", labels) for at, labels in enumerate(jobs)]
        for job in run.jobs[1]:
            self._told("workflow_job", "queued", run, job)
        return run

    def add_job(self, run: Run, labels: list[str]) -> Job:
        with self.lock:
            made = self._new_job(run, f"job-{len(run.latest)}", labels)
            run.latest.append(made)
        self._told("workflow_job", "queued", run, made)
        return made

    def _new_job(self, run: Run, name: str, labels: list[str]) -> Job:
        now = self.now()
        job = Job(next(self.ids), run.id, run.attempt, name, labels, now, now, self.clock.monotonic())
        self.jobs[job.id] = job
        with self.changed:
            self.changed.notify_all()
        return job

    def hold(self, job: Job, status: str = "waiting") -> None:
        """It waits for an approval, or for its concurrency group (`pending`), and no runner is given it."""
        with self.lock:
            job.status = status
        if status == "waiting":
            self._told("workflow_job", "waiting", self.runs[job.run_id], job)

    def release(self, job: Job) -> None:
        with self.changed:
            job.status = "queued"
            self.changed.notify_all()
        self._told("workflow_job", "queued", self.runs[job.run_id], job)

    def give(self, job: Job, only: Record | None = None) -> Record | None:
        """To a runner that waits and may have it, and has no other."""
        with self.changed:
            if job.status != "queued":
                return None
            run = self.runs[job.run_id]
            for record in [only] if only is not None else self._waiting(run.repository):
                if record.session and not record.job and serves(record.labels, job.labels) and self.may(job, record):
                    break
            else:
                return None
            record.job, job.runner, job.status = job.id, record, "in_progress"
            job.started_at, job.heard_s = self.now(), self.clock.monotonic()
            self.changed.notify_all()
        self._told("workflow_job", "in_progress", run, job)
        return record

    def _waiting(self, repository: str) -> Iterator[Record]:
        for scope in (repository, repository.partition("/")[0]):
            yield from self.living(scope)

    def take(self, record: Record) -> Job | None:
        """The job that a waiting runner has, or the oldest that it may have."""
        with self.lock:
            if record.job:
                return self.jobs[record.job]
            for job in list(self.jobs.values()):
                repository = self.runs[job.run_id].repository
                if record.scope in (repository, repository.partition("/")[0]) and self.give(job, record):
                    return job
            return None

    def end(self, job: Job, conclusion: str) -> None:
        """Its runner is ephemeral: its record goes with it."""
        with self.changed:
            if job.status == "completed":
                return
            job.status, job.conclusion, job.completed_at = "completed", conclusion, self.now()
            if job.runner is not None:
                job.runner.job = 0
                self.remove(job.runner)
            self.changed.notify_all()
            run = self.runs[job.run_id]
            over = run.status == "completed"
        self._told("workflow_job", "completed", run, job)
        if over:
            self._told("workflow_run", "completed", run, None)

    def cancel(self, run: Run) -> None:
        """What waits ends at once; what runs is told to."""
        for job in run.latest:
            with self.changed:
                waits = job.status in ("queued", "waiting", "pending")
                job.cancelled = True
                self.changed.notify_all()
            if waits:
                self.end(job, "cancelled")

    def rerun(self, job: Job) -> bool:
        """False: the run still runs. The jobs that are not run again are in the new attempt as they ended, under new
        ids; whether GitHub gives them new ids is not published, and this is the harder case for a client."""
        with self.lock:
            run = self.runs[job.run_id]
            if run.status != "completed":
                return False
            before = run.latest
            run.attempt += 1
            made = run.jobs[run.attempt] = []
            for one in before:
                again = self._new_job(run, one.name, one.labels)
                if one.name != job.name:
                    again.status, again.conclusion = "completed", one.conclusion
                    again.started_at, again.completed_at = one.started_at, one.completed_at
                made.append(again)
            new = next(one for one in made if one.name == job.name)
        self._told("workflow_job", "queued", run, new)
        return True

    def lose_the_silent(self, lost_after_s: float) -> None:
        """Jobs whose runner has not been heard for so long fail."""
        with self.lock:
            late = self.clock.monotonic() - lost_after_s
            lost = [job for job in self.jobs.values() if job.status == "in_progress" and job.heard_s < late]
        for job in lost:
            self.end(job, "failure")
