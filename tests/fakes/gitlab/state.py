"""What a GitLab knows: groups, projects, runners, pipelines and their jobs, merge requests and what is said on them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from provisioner.domain.ports import Clock

CONTACT_S = 2 * 3600  # how long a runner that has called counts as online; Source: Ci::Runner::ONLINE_CONTACT_TIMEOUT


@dataclass
class Group:
    id: int
    path: str


@dataclass
class Project:
    id: int
    path: str
    archived: bool = False
    builds: bool = True
    fork_of: int = 0


@dataclass
class Runner:
    id: int
    kind: str
    owner: int
    description: str
    token: str
    tags: list[str]
    run_untagged: bool
    locked: bool
    maximum_timeout: int | None
    paused: bool = False
    contacted: float | None = None
    made_at_s: float = 0.0


@dataclass
class MergeRequest:
    iid: int
    project: int
    source: int


@dataclass
class Pipeline:
    id: int
    project: int
    ref: str
    source: str


@dataclass
class Job:
    id: int
    project: int
    pipeline: int
    name: str
    tags: list[str]
    status: str = "created"
    runner: int = 0
    retried: bool = False
    created_at: str = ""
    made_at_s: float = 0.0
    script: list[str] = field(default_factory=lambda: ["true"])


@dataclass
class Note:
    id: int
    body: str
    where: tuple[str, int, str]
    system: bool = False
    discussion: str = ""
    author: int = 0


@dataclass
class Status:
    project: int
    sha: str
    name: str
    state: str
    description: str


@dataclass
class State:
    """`told` hears of each status that a job comes to."""

    clock: Clock
    told: Callable[[Job], None] = lambda job: None
    groups: dict[int, Group] = field(default_factory=dict)
    projects: dict[int, Project] = field(default_factory=dict)
    runners: dict[int, Runner] = field(default_factory=dict)
    pipelines: dict[int, Pipeline] = field(default_factory=dict)
    jobs: dict[int, Job] = field(default_factory=dict)
    merge_requests: list[MergeRequest] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    statuses: list[Status] = field(default_factory=list)
    ids: itertools.count[int] = field(default_factory=lambda: itertools.count(11))

    def now(self) -> str:
        return self.clock.now().strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"

    def group(self, path: str) -> Group:
        found = next((one for one in self.groups.values() if one.path == path), None)
        made = found or Group(next(self.ids), path)
        self.groups[made.id] = made
        return made

    def project(self, path: str) -> Project:
        found = next((one for one in self.projects.values() if one.path == path), None)
        if found:
            return found
        folder = path.rpartition("/")[0]
        while folder:
            self.group(folder)
            folder = folder.rpartition("/")[0]
        made = Project(next(self.ids), path)
        self.projects[made.id] = made
        return made

    def queue(self, path: str, tags: list[str], *, name: str = "train", fork: bool = False) -> Job:
        """A job that waits. `fork`: of a merge request from a fork, whose pipeline runs in this project."""
        project = self.project(path)
        ref, source = "main", "push"
        if fork:
            theirs = self.project("stranger/" + path.rpartition("/")[2])
            theirs.fork_of = project.id
            iid = 1 + sum(one.project == project.id for one in self.merge_requests)
            self.merge_requests.append(MergeRequest(iid, project.id, theirs.id))
            ref, source = f"refs/merge-requests/{iid}/head", "merge_request_event"
        pipeline = Pipeline(next(self.ids), project.id, ref, source)
        self.pipelines[pipeline.id] = pipeline
        return self.add_job(pipeline, name, tags)

    def add_job(self, pipeline: Pipeline, name: str, tags: list[str], *, held: str = "") -> Job:
        """`held`: the status that it stays at, and does not wait for a runner yet."""
        job = Job(next(self.ids), pipeline.project, pipeline.id, name, list(tags))
        job.created_at, job.made_at_s = self.now(), self.clock.monotonic()
        self.jobs[job.id] = job
        for status in ("created", held or "pending"):
            self.become(job, status)
        return job

    def become(self, job: Job, status: str) -> None:
        job.status = status
        self.told(job)

    def status(self, runner: Runner) -> str:
        if runner.contacted is None:
            return "never_contacted"
        return "online" if self.clock.monotonic() - runner.contacted < CONTACT_S else "offline"

    def named(self, description: str) -> Runner | None:
        return next((one for one in self.runners.values() if one.description == description), None)

    def serves(self, runner: Runner, job: Job) -> bool:
        """Which jobs a runner may be given. Source: GitLab's docs, `tags` and runner scopes, 2026."""
        if job.status != "pending" or runner.paused:
            return False
        path = self.projects[job.project].path
        reaches = {
            "project_type": runner.owner == job.project,
            "group_type": runner.owner in self.groups and path.startswith(self.groups[runner.owner].path + "/"),
            "instance_type": True,
        }[runner.kind]
        fits = set(job.tags) <= set(runner.tags) if job.tags else runner.run_untagged
        return reaches and fits

    def give(self, runner: Runner, job: Job) -> None:
        job.runner = runner.id
        self.become(job, "running")

    def running(self, runner: Runner) -> list[Job]:
        return [one for one in self.jobs.values() if one.runner == runner.id and one.status == "running"]
