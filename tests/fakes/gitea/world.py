"""A Gitea's or Forgejo's own side, as the laws of forges ask for it."""

from __future__ import annotations

import json
from typing import Any

from provisioner.domain.forge import ForgeCredentials, Registration, Release, Target
from provisioner.forges.gitea.forge import GiteaForge
from tests.fakes.forge_http import Fault
from tests.fakes.hand_clock import HandClock
from tests.fakes.patience import PatientLine

from .server import MALLORY, REGISTRATION, TOKEN, GiteaServer
from .state import Runner

REPOSITORY = "vision/train"
_CALLS = {
    "register": "POST (.*RunnerService/Register|.*/actions/runners)",
    "runners": "GET .*/actions/runners",
    "remove": r"DELETE .*/actions/runners/\d+",
    "queued": "GET .*/actions/(jobs|runners/jobs)",
    "job": r"GET .*/actions/(jobs/\d+|runs/\d+/jobs)",
    "taken": r"GET .*/actions/runs/\d+/jobs",
    "rerun": r"POST .*/jobs/\d+/rerun",
    "comments": "GET .*/comments",
    "add": "POST .*/comments",
    "edit": "PATCH .*/comments/[0-9]+",
    "drop": "DELETE .*/comments/[0-9]+",
    "check": "POST .*/statuses/.*",
}


class GiteaWorld:
    credentials: tuple[str, ...] = (TOKEN, REGISTRATION)
    targets = (Target("pr", "7"), Target("issue", "3"))
    sha = "c0ffee00" * 5

    def __init__(self, server: GiteaServer) -> None:
        self.server = server
        self.state = server.state
        self.clock: HandClock = server.clock
        self.line = PatientLine()
        self.scope = f"/repos/{REPOSITORY}"
        self.state.repository(REPOSITORY)
        self._waiting: set[int] = set()

    def forge(self) -> GiteaForge:
        return GiteaForge(self.server.url, ForgeCredentials(token=TOKEN), self.clock, Release(), self.line)

    def records(self) -> list[str]:
        return sorted(one.name for one in self.state.runners.values())

    def named(self, name: str) -> Runner:
        (found,) = [one for one in self.state.runners.values() if one.name == name]
        return found

    def labels_of(self, name: str) -> list[str]:
        return self.named(name).labels

    def seed(self, names: list[str]) -> None:
        for name in names:
            self.server.make_runner(self.scope, name, True)

    def start(self, given: Registration) -> None:
        """The program has its `.runner` file, declares its labels, and waits."""
        told = json.loads(given.secret)
        for one in self.state.runners.values():
            if (one.uuid, one.token) == (told["uuid"], told["token"]):
                one.online_at_s = self.clock.monotonic()
                one.labels = [label.removesuffix(":host") for label in told["labels"]]
                self._waiting.add(one.id)
                return
        raise ValueError("unregistered runner")

    def queue(self, *labels: str) -> str:
        legacy = not self.server.forgejo and self.server.number < (1, 27)
        return str(self.state.queue(REPOSITORY, list(labels), attempt=0 if legacy else 1).id)

    def queue_hosted(self) -> str:
        """There are no machines of the forge's own; any runner may have a job without labels."""
        return str(self.state.queue(REPOSITORY, []).id)

    def give(self, job_id: str) -> str:
        job = self.state.jobs[int(job_id)]
        for one in self.state.runners.values():
            if one.id in self._waiting and self.state.serves(one, job):
                self._waiting.discard(one.id)
                job.attempt += not self.server.forgejo and self.server.number < (1, 27)
                self.state.give(one, job)
                return one.name
        return ""

    def finish(self, job_id: str) -> None:
        self.state.finish(self.state.jobs[int(job_id)])

    def trouble(self, call: str, how: Any, *, skip: int = 0, times: int = 1) -> None:
        self.line.expect(how.name.lower())
        self.server.faults.append(Fault(_CALLS[call], how.name.lower(), skip, times))

    def throttle(self, seconds: float) -> None:
        """As a proxy before it does."""
        self.server.shut_until_s = self.clock.monotonic() + seconds

    def spend(self, left: float) -> None:
        """It never says how much may still be asked."""

    def asked(self) -> int:
        return len(self.server.asked)

    def said(self, target: Target) -> list[str]:
        return [one.body for one in self.server.said(REPOSITORY, target.ref)]

    def say(self, target: Target, bodies: list[str]) -> None:
        for body in bodies:
            self.server.say(REPOSITORY, target.ref, body, MALLORY)

    def checks(self) -> list[tuple[str, str, str]]:
        return [(one.sha, one.context, one.state) for one in self.state.statuses]
