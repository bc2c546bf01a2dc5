"""A GitLab, a Gitea or a Forgejo with one repository and the stand-in for its runner program, shown whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from provisioner.app.clock import SystemClock
from tests.fakes import standin_runner
from tests.fakes.forge_http import Answer
from tests.fakes.gitea.server import TOKEN as TEA_TOKEN
from tests.fakes.gitea.server import GiteaServer
from tests.fakes.gitlab.server import TOKEN as LAB_TOKEN
from tests.fakes.gitlab.server import GitLabServer

VERSION = "18.5.0"
REPOSITORY = "acme/vision"
WORK = "sleep 3"  # not over before anybody has looked: Forgejo's program has no hooks that tell of it
_PLAIN = {"Content-Type": "application/octet-stream"}


@dataclass
class Elsewhere:
    """`queue` makes a job of the repository wait that wants these labels; `hold` adds one to its run that does not wait
    yet; `cancel` has somebody end it. `making` and `stopping` are the names of the requests that make a runner and that
    keep it from taking jobs. `software` are what a forge's settings say of its runner program."""

    kind: str
    server: Any
    token: str
    queue: Callable[[Sequence[str]], Any]
    hold: Callable[[Any], Any]
    cancel: Callable[[Any], None]
    making: str
    stopping: str
    software: dict[str, str] = field(default_factory=dict)

    def settings(self) -> dict[str, str]:
        return {"kind": self.kind, "url": self.server.url, "token_env": "FORGE_TOKEN", **self.software}

    def runners(self) -> list[Any]:
        return list(self.server.state.runners.values())


def publish(server: Any, place: str, list_at: str = "") -> None:
    """The program for both kinds of machines, where its publisher has it: each with its sha256 beside it, or all of
    them in one list."""
    program = standin_runner.alone(VERSION)
    digest, listed = hashlib.sha256(program).hexdigest(), ""
    for machine in ("amd64", "arm64"):
        path = place.format(machine=machine)
        server.files[path] = Answer(program, headers=_PLAIN)
        line = f"{digest}  {path.rpartition('/')[2]}\n"
        listed += f"{digest}\tbinaries/{path.rpartition('/')[2]}\n"
        if not list_at:
            server.files[f"{path}.sha256"] = Answer(line.encode(), headers=_PLAIN)
    if list_at:
        server.files[list_at] = Answer(listed.encode(), headers=_PLAIN)


@contextmanager
def open_lab(root: str = "") -> Iterator[Elsewhere]:
    """Its limits are kept when it is shut, however many processes asked."""
    server = GitLabServer(SystemClock(), root)
    with server:
        state = server.state
        state.project(REPOSITORY)
        folder = f"/software/v{VERSION}"
        publish(server, folder + "/binaries/gitlab-runner-linux-{machine}", f"{folder}/release.sha256")
        software = {"runner_version": VERSION, "runner_url": f"{server.url}/software"}

        def queue(labels: Sequence[str]) -> Any:
            with server.lock:
                job = state.queue(REPOSITORY, list(labels))
                job.script = [WORK]
                return job

        def hold(job: Any) -> Any:
            with server.lock:
                return state.add_job(state.pipelines[job.pipeline], "deploy", job.tags, held="manual")

        def cancel(job: Any) -> None:
            with server.lock:
                state.become(job, "canceled")

        making, stopping = "POST /user/runners", "PUT /runners/[0-9]+"
        yield Elsewhere("gitlab", server, LAB_TOKEN, queue, hold, cancel, making, stopping, software)
    assert (server.limits.refused, server.ignored) == (0, 0)


@contextmanager
def open_tea(version: str = "1.27.3") -> Iterator[Elsewhere]:
    server = GiteaServer(SystemClock(), version=version)
    with server:
        state = server.state
        state.repository(REPOSITORY)
        name = f"forgejo-runner-{VERSION}" if server.forgejo else f"act_runner-{VERSION}"
        folder = f"/software/v{VERSION}" if server.forgejo else f"/software/{VERSION}"
        publish(server, f"{folder}/{name}-linux-{{machine}}")
        software = {"runner_version": VERSION, "runner_url": f"{server.url}/software"}

        def queue(labels: Sequence[str]) -> Any:
            with server.lock:
                job = state.queue(REPOSITORY, list(labels))
                job.steps = [{"name": "train", "run": WORK}]
                return job

        def hold(job: Any) -> Any:
            with server.lock:
                return state.add_job(state.runs[job.run], "deploy", job.labels, 1, "blocked")

        def cancel(job: Any) -> None:
            with server.lock:
                state.finish(job, "cancelled")

        making, stopping = "POST .*RunnerService/Register", "PATCH .*/actions/runners/[0-9]+"
        yield Elsewhere("gitea", server, TEA_TOKEN, queue, hold, cancel, making, stopping, software)
