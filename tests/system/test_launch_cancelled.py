"""A step that is cancelled while it launches a runner: real command, served controller, machine and agent, and a GitHub
with real state over HTTP. Whatever is signalled, and at whatever step, nothing is left within a stated time.

At each step the controller is held still until the command was signalled, so that what is cancelled is at that step and
no further. Where the command itself is not told, GitHub's timing is scaled as the controller's time-outs are.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from provisioner.cli.client import Client
from tests.fakes.github.server import FakeGitHub
from tests.fakes.ports import free_port
from tests.fakes.trouble import Trouble
from tests.system.cancelling import STEPS, Step, still, until
from tests.system.hub import open_hub
from tests.system.served import served
from tests.system.world import SCALE, World, world
from tests.unit.cli.step import github

pytestmark = pytest.mark.system
TOKEN = "ghp_classic-token-of-ada"
BOOT_S, IDLE_S, AWAITED_S = 40.0, 3.0, 4.0  # the deadline, the idle timeout, how long a launch may be silent
ENDING_S = 30.0  # what may pass until all is gone; with AWAITED_S less than BOOT_S
NEVER = "10m"  # an idle timeout that no test waits for
ASKED = "the request is sent"


@dataclass
class Site:
    """A served controller and a GitHub; `client` asks the one."""

    w: World
    hub: FakeGitHub
    client: Client
    port: int

    def step(self, idle: str = NEVER, *more: str, shell: bool) -> Step:
        return Step(self.w, idle, shell, more)

    @contextlib.contextmanager
    def held(self, step: Step, at: str) -> Iterator[Callable[[], None]]:
        """The step is begun, and the controller stands still at that point; it goes on when what is given is called,
        and in the end."""
        with still(self.w) as (hold, let_go):
            if at == ASKED:
                hold()
            step.begin()
            if at == ASKED:
                self.w.until(self._unread, 30, "the request")
            else:
                until(lambda: self.w.home / "runner.db", at, step.run, self.w.log)
                hold()
            yield let_go

    def _unread(self) -> bool:
        """Whether anything sent to the controller waits to be read there."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        mine = [row[4].split(":")[1] for row in rows if row[1].endswith(f":{self.port:04X}") and row[3] == "01"]
        return any(int(waiting, 16) for waiting in mine)

    def jobs(self, step: Step) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.client.get("/jobs", all=1)
        return [job for job in found if job["spec"]["name"].startswith(f"run-{step.run}-")]

    def nothing_left(self, step: Step, within_s: float) -> list[str]:
        """No job under way, no machine, no process of one, no runner. How the jobs ended."""
        ends_s = time.monotonic() + within_s
        self.w.until(lambda: {job["phase"] for job in self.jobs(step)} <= {"done"}, within_s, "the job to end")
        self.w.until(lambda: not self.client.get("/instances"), ends_s - time.monotonic(), "the machine to go")
        self.w.until(lambda: not self.hub.state.living("acme/vision"), ends_s - time.monotonic(), "the runner to go")
        self.w.until(lambda: not self._agents(), ends_s - time.monotonic(), "processes to end")
        return [job["outcome"] for job in self.jobs(step)]

    def _agents(self) -> list[int]:
        return [pid for role in ("respawn", "agent", "supervisor") for pid in self.w.pids(role)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    port, folder = free_port(), tmp_path_factory.mktemp("c")
    work = folder / "step"
    work.mkdir()
    with open_hub() as hub, world(folder) as w:
        w.home.mkdir()
        forge = {"kind": "github", "url": hub.url, "token_env": "HUB_TOKEN"}
        settings = {"forges": [forge], "policy": {"boot_timeout_s": BOOT_S, "awaited_s": AWAITED_S}}
        (w.home / "settings.yaml").write_text(json.dumps(settings))
        w.extra["HUB_TOKEN"] = TOKEN
        with served(w, port=port):
            token = w.json("token", "create", "ann")["token"]
            server = f"http://127.0.0.1:{port}"
            w.extra |= github(work) | {"GITHUB_SERVER_URL": hub.url, "GITHUB_API_URL": f"{hub.url}/api/v3"}
            w.extra |= {"RUNNER_SERVER": server, "RUNNER_TOKEN": token}
            yield Site(w, hub, Client(server, token), port)


@pytest.mark.parametrize("first", [0, 1], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("at", [ASKED, *STEPS])
def test_a_command_that_took_the_shells_place_takes_back_what_it_launched(site: Site, at: str, first: int) -> None:
    """On GitHub's own timing, which it need not use up."""
    step = site.step(shell=False)
    with site.held(step, at) as let_go:
        step.cancelled(first, told=let_go)
    assert step.entry is not None
    assert step.entry.returncode == 130, step.entry.stdout and step.entry.stdout.read()
    assert site.nothing_left(step, ENDING_S) == ["cancelled"]


def how(at: str, outcome: str) -> list[list[str]]:
    """How its one job may have ended: a request whose sender was killed before it was read asks for nothing."""
    return [[outcome], []] if at == ASKED else [[outcome]]


@pytest.mark.parametrize("at", [ASKED, *STEPS])
def test_a_command_that_is_killed_is_made_good_by_the_post_step(site: Site, at: str) -> None:
    """Nothing but the command is signalled, and by what it cannot hear."""
    step = site.step(shell=True)
    with site.held(step, at):
        os.kill(step.child(), signal.SIGKILL)
        assert step.entry is not None
        assert step.entry.wait(10) == 128 + signal.SIGKILL
    step.posted()
    assert site.nothing_left(step, ENDING_S) in how(at, "cancelled")


@pytest.mark.parametrize("at", [ASKED, *STEPS])
def test_a_command_whose_shell_alone_is_told_leaves_nothing_beyond_the_boot_deadline(site: Site, at: str) -> None:
    """Without a post step: killed with the tree, it can take nothing back. It has not seen the runner come."""
    step = site.step(shell=True)
    with site.held(step, at):
        step.cancelled(scale=float(SCALE))
    assert site.nothing_left(step, AWAITED_S + ENDING_S) in how(at, "cancelled")


@pytest.mark.parametrize("at", [ASKED, "its machine is launching", "it is online"])
def test_a_command_whose_shell_alone_is_killed_goes_on_and_its_runner_goes_when_idle(site: Site, at: str) -> None:
    """Nobody kills its tree, and there is no post step."""
    step = site.step(f"{IDLE_S}s", shell=True)
    with site.held(step, at) as let_go:
        said = step.shell_killed(let_go)
    assert f" is online at {site.hub.url}/acme/vision".encode() in said
    assert site.nothing_left(step, IDLE_S + ENDING_S) == ["expired"]


def test_a_step_that_is_cancelled_after_its_launch_leaves_it_to_its_idle_timeout(site: Site) -> None:
    """The jobs that it was launched for may still come, so the command is not there to be told."""
    step = site.step(f"{IDLE_S}s", shell=True)
    step.begin()
    assert step.entry is not None
    assert step.entry.wait(60) == 0
    step.killed()
    assert site.nothing_left(step, IDLE_S + ENDING_S) == ["expired"]


def test_a_runner_that_does_not_come_is_not_waited_for_longer_than_its_command_lives(site: Site) -> None:
    """Its forge makes none, and the command that would have given up was killed."""
    step = site.step(shell=False)
    site.hub.troubles.append(Trouble("register", code="502", times=10**6))
    try:
        with site.held(step, "its machine is ready"):
            step.killed()
        assert site.nothing_left(step, AWAITED_S + ENDING_S) == ["cancelled"]
    finally:
        site.hub.troubles.clear()
    (job,) = site.jobs(step)
    events = site.client.get("/events", job=job["id"])
    (late,) = [one["message"] for one in events if one["what"] == "runner.late"]
    assert late == f"nobody has waited for it for {AWAITED_S:g} s"
