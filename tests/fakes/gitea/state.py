"""What a Gitea or a Forgejo knows: repositories, runners, runs and their jobs, pull requests and what is said."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from provisioner.domain.ports import Clock

ONLINE_S = 60.0  # Source: models/actions/runner.go, RunnerOfflineTime
DONE = ("success", "failure", "cancelled", "skipped")


@dataclass
class Repository:
    id: int
    path: str


@dataclass
class Runner:
    """`scope` is where it was registered: /repos/OWNER/NAME, /orgs/NAME, /user or /admin."""

    id: int
    uuid: str
    token: str
    name: str
    scope: str
    labels: list[str]
    ephemeral: bool
    disabled: bool = False
    online_at_s: float | None = None
    made_at_s: float = 0.0


@dataclass
class Pull:
    number: int
    repository: int
    head: int | None


@dataclass
class Run:
    id: int
    repository: int
    event: str = "push"
    ref: str = "refs/heads/main"
    fork: bool = False


@dataclass
class Job:
    """`status` as inside: waiting, blocked, running or one of DONE."""

    id: int
    run: int
    name: str
    labels: list[str]
    attempt: int
    status: str = "waiting"
    runner: int = 0
    created_at: str = ""
    made_at_s: float = 0.0
    steps: list[dict[str, str]] = field(default_factory=lambda: [{"name": "train", "run": "true"}])


@dataclass
class Comment:
    id: int
    repository: int
    number: str
    body: str
    author: int = 0


@dataclass
class Status:
    sha: str
    context: str
    state: str


@dataclass
class State:
    """`told` hears of each status that a job comes to."""

    clock: Clock
    told: Callable[[Job], None] = lambda job: None
    orgs: set[str] = field(default_factory=set)
    repositories: dict[int, Repository] = field(default_factory=dict)
    runners: dict[int, Runner] = field(default_factory=dict)
    runs: dict[int, Run] = field(default_factory=dict)
    jobs: dict[int, Job] = field(default_factory=dict)
    pulls: list[Pull] = field(default_factory=list)
    comments: list[Comment] = field(default_factory=list)
    statuses: list[Status] = field(default_factory=list)
    ids: itertools.count[int] = field(default_factory=lambda: itertools.count(11))

    def repository(self, path: str) -> Repository:
        found = next((one for one in self.repositories.values() if one.path == path), None)
        made = found or Repository(next(self.ids), path)
        self.repositories[made.id] = made
        return made

    def queue(self, path: str, labels: list[str], *, pull: str = "", attempt: int = 1) -> Job:
        """A job that waits. `pull`: of a pull request from the repository of that path; `attempt` as it is stored."""
        run = Run(next(self.ids), self.repository(path).id)
        if pull:
            number = 1 + len(self.pulls)
            self.pulls.append(Pull(number, run.repository, self.repository(pull).id))
            run.event, run.ref, run.fork = "pull_request", f"refs/pull/{number}/head", pull != path
        self.runs[run.id] = run
        return self.add_job(run, "train", labels, attempt)

    def add_job(self, run: Run, name: str, labels: list[str], attempt: int, status: str = "waiting") -> Job:
        job = Job(next(self.ids), run.id, name, list(labels), attempt)
        job.created_at = self.clock.now().isoformat().replace("+00:00", "Z")
        job.made_at_s = self.clock.monotonic()
        self.jobs[job.id] = job
        self.become(job, status)
        return job

    def become(self, job: Job, status: str) -> None:
        job.status = status
        self.told(job)

    def give(self, runner: Runner, job: Job) -> None:
        job.runner = runner.id
        self.become(job, "running")

    def path_of(self, job: Job) -> str:
        return self.repositories[self.runs[job.run].repository].path

    def within(self, job: Job, scope: str) -> bool:
        path = self.path_of(job)
        return scope == "/admin" or scope in (f"/repos/{path}", "/orgs/" + path.partition("/")[0]) or scope == "/user"

    def online(self, runner: Runner) -> bool:
        return runner.online_at_s is not None and self.clock.monotonic() - runner.online_at_s < ONLINE_S

    def running(self, runner: Runner) -> list[Job]:
        return [one for one in self.jobs.values() if one.runner == runner.id and one.status == "running"]

    def serves(self, runner: Runner, job: Job) -> bool:
        fits = set(job.labels) <= set(runner.labels)
        return job.status == "waiting" and not runner.disabled and fits and self.within(job, runner.scope)

    def finish(self, job: Job, status: str = "failure") -> None:
        """An ephemeral runner goes with its job. Source: services/actions, cleanup of ephemeral runners."""
        self.become(job, status)
        runner = self.runners.get(job.runner)
        if runner and runner.ephemeral:
            del self.runners[runner.id]
