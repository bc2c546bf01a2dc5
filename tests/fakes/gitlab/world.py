"""A GitLab's own side, as the laws of forges ask for it."""

from __future__ import annotations

from typing import Any

from provisioner.domain.forge import ForgeCredentials, Registration, Release, Target
from provisioner.forges.gitlab.forge import GitLab
from tests.fakes.forge_http import Fault
from tests.fakes.hand_clock import HandClock
from tests.fakes.patience import PatientLine

from .said import MALLORY
from .server import TOKEN, GitLabServer
from .state import Runner

PROJECT = "team/vision/train"
_CALLS = {
    "register": "POST /user/runners",
    "runners": "GET .*/runners(/all)?",
    "remove": r"DELETE /runners/\d+",
    "queued": "GET /projects/[^/]+/jobs",
    "job": r"GET /projects/[^/]+/jobs/\d+",
    "taken": r"GET /projects/[^/]+/pipelines/\d+/jobs",
    "rerun": r"POST /projects/[^/]+/jobs/\d+/retry",
    "comments": "GET .*/(notes|discussions)",
    "add": "POST .*/(notes|discussions)",
    "edit": "PUT .*/notes/[0-9]+",
    "drop": "DELETE .*/notes/[0-9]+",
    "check": "POST .*/statuses/.*",
}


class GitLabWorld:
    credentials: tuple[str, ...] = (TOKEN,)
    targets = (Target("pr", "7"), Target("issue", "3"), Target("commit", "c0ffee00" * 5))
    sha = "c0ffee00" * 5

    def __init__(self, server: GitLabServer, path: str = PROJECT) -> None:
        self.server = server
        self.state = server.state
        self.clock: HandClock = server.clock
        self.line = PatientLine()
        self.path = path
        self.project = self.state.project(PROJECT)
        self._waiting: set[int] = set()

    def forge(self) -> GitLab:
        credentials = ForgeCredentials(token=TOKEN)
        return GitLab(self.server.url, credentials, self.clock, Release(), self.line)

    def records(self) -> list[str]:
        return sorted(one.description for one in self.state.runners.values())

    def labels_of(self, name: str) -> list[str]:
        return self._named(name).tags

    def _named(self, name: str) -> Runner:
        (found,) = [one for one in self.state.runners.values() if one.description == name]
        return found

    def seed(self, names: list[str]) -> None:
        for name in names:
            number = next(self.state.ids)
            made = Runner(number, "project_type", self.project.id, name, f"glrt-{number}", ["x"], False, True, None)
            made.made_at_s = self.clock.monotonic()
            self.state.runners[number] = made

    def start(self, given: Registration) -> None:
        found = [one for one in self.state.runners.values() if one.token == given.secret]
        if not found:
            raise ValueError("403 Forbidden - invalid token")
        found[0].contacted = self.clock.monotonic()
        self._waiting.add(found[0].id)

    def queue(self, *labels: str) -> str:
        return str(self.state.queue(PROJECT, list(labels)).id)

    def queue_hosted(self) -> str:
        return str(self.state.queue(PROJECT, []).id)

    def give(self, job_id: str) -> str:
        """Our programs are started to do one job (run-single --max-builds 1)."""
        job = self.state.jobs[int(job_id)]
        for one in self.state.runners.values():
            if one.id in self._waiting and self.state.serves(one, job):
                self._waiting.discard(one.id)
                self.state.give(one, job)
                return one.description
        return ""

    def finish(self, job_id: str) -> None:
        self.state.become(self.state.jobs[int(job_id)], "failed")

    def trouble(self, call: str, how: Any, *, skip: int = 0, times: int = 1) -> None:
        self.line.expect(how.name.lower())
        self.server.faults.append(Fault(_CALLS[call], how.name.lower(), skip, times))

    def throttle(self, seconds: float) -> None:
        self.server.shut_until_s = self.clock.monotonic() + seconds

    def spend(self, left: float) -> None:
        self.server.limits.spend(TOKEN, left)

    def asked(self) -> int:
        return len(self.server.asked)

    def _where(self, target: Target) -> tuple[str, int, str]:
        kind = {"pr": "merge_requests", "issue": "issues", "commit": "commits"}[target.what]
        return kind, self.project.id, target.ref

    def said(self, target: Target) -> list[str]:
        return [note.body for note in self.server.said.there(self._where(target)) if not note.system]

    def say(self, target: Target, bodies: list[str]) -> None:
        self.server.said.say(self._where(target), "changed the title", system=True)
        for body in bodies:
            self.server.said.say(self._where(target), body, author=MALLORY)

    def checks(self) -> list[tuple[str, str, str]]:
        return [(one.sha, one.name, one.state) for one in self.state.statuses]
