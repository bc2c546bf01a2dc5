"""A step that is cancelled while it launches a runner: real command, served controller, machine and agent, and a GitHub
with real state over HTTP. Whatever is signalled, and at whatever step, nothing is left within a stated time.

At each step the controller is held still until the command was signalled, so that what is cancelled is at that step and
no further. Where the command itself is not told, GitHub's timing is scaled as the controller's time-outs are.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from provisioner.cli.client import Client
from tests.fakes.github.server import FakeGitHub
from tests.fakes.ports import free_port
from tests.fakes.trouble import Trouble
from tests.system.hub import open_hub
from tests.system.served import served
from tests.system.world import SCALE, World, world
from tests.unit.cli.step import github

pytestmark = pytest.mark.system
TOKEN = "ghp_classic-token-of-ada"
BOOT_S, IDLE_S, ENDING_S = 40.0, 3.0, 30.0  # the deadline, the idle timeout, and what may pass until all is gone
AS_GITHUB = ((signal.SIGINT, 7.5), (signal.SIGTERM, 2.5))  # then the tree is killed. Source: actions/runner, 2026
NEVER = "10m"  # an idle timeout that no test waits for
ASKED = "the request is sent"
# What a runner's job has come to, as the database says; `?` is the job's label.
STEPS = {
    "it is stored": "select 1 from jobs where name = ?",
    "its machine is planned": "select 1 from instances i join jobs j on i.planned_for = j.id where j.name = ?",
    **{
        f"its machine is {words[0]}": "select 1 from instances i join jobs j on i.planned_for = j.id where j.name = ?"
        f" and i.phase in {words}"
        for words in (("launching", "booting", "ready"), ("booting", "ready"), ("ready", ""))
    },
    "it is registered": "select 1 from runners r join jobs j on r.job_id = j.id where j.name = ? and r.forge_id <> ''",
    "it is online": "select 1 from runners r join jobs j on r.job_id = j.id where j.name = ? and r.online_at > 0",
}
_runs = itertools.count(1001)


@dataclass
class Step:
    """One step of a workflow, in a session of its own. `shell`: what runs it is a shell that waits for it."""

    site: Site
    idle: str
    shell: bool
    more: tuple[str, ...] = ()
    run: str = field(default_factory=lambda: str(next(_runs)))
    entry: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        return self.site.w.environment | {"GITHUB_RUN_ID": self.run}

    @property
    def words(self) -> list[str]:
        return self.site.w.command("launch", "--idle-timeout", self.idle, *self.more)

    def begin(self) -> subprocess.Popen[bytes]:
        script = '"$@"; exit $?' if self.shell else 'exec "$@"'
        words = ["sh", "-c", script, "sh", *self.words]
        self.entry = subprocess.Popen(
            words, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        return self.entry

    def child(self) -> int:
        """The command itself, whoever runs it."""
        assert self.entry is not None
        if not self.shell:
            return self.entry.pid
        children = Path(f"/proc/{self.entry.pid}/task/{self.entry.pid}/children")
        return int(self.site.w.until(lambda: children.read_text().split(), 10, "the shell to begin it")[0])

    def cancelled(self, first: int = 0, scale: float = 1.0, told: Callable[[], None] = lambda: None) -> None:
        """As GitHub does it: the entry process is signalled, and in the end the tree is killed. `first`: where in
        AS_GITHUB to begin; `told` after each signal."""
        assert self.entry is not None
        for number, wait_s in AS_GITHUB[first:]:
            self.entry.send_signal(number)
            told()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.entry.wait(wait_s * scale)
                break
        self.killed()

    def killed(self) -> None:
        assert self.entry is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.entry.pid, signal.SIGKILL)
        self.entry.wait(10)

    def posted(self) -> None:
        """What the action does after a job whose launch was cut off."""
        subprocess.run([*self.words, "--cancel"], env=self.environment, check=True, capture_output=True, timeout=60)


@dataclass
class Site:
    """A served controller and a GitHub; `client` asks the one."""

    w: World
    hub: FakeGitHub
    client: Client
    port: int

    def step(self, idle: str = NEVER, *more: str, shell: bool) -> Step:
        return Step(self, idle, shell, more)

    @contextlib.contextmanager
    def held(self, step: Step, at: str) -> Iterator[Callable[[], None]]:
        """The step is begun, and the controller stands still at that point; it goes on when what is given is called,
        and in the end."""
        with self._still() as (hold, let_go):
            if at == ASKED:
                hold()
            step.begin()
            if at == ASKED:
                self.w.until(self._unread, 30, "the request")
            else:
                self._until(STEPS[at], step.run)
                hold()
            yield let_go

    @contextlib.contextmanager
    def _still(self) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
        pids = self.w.pids("controller")

        def send(number: int) -> None:
            for pid in pids:
                os.kill(pid, number)

        try:
            yield lambda: send(signal.SIGSTOP), lambda: send(signal.SIGCONT)
        finally:
            send(signal.SIGCONT)

    def _unread(self) -> bool:
        """Whether anything sent to the controller waits to be read there."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        mine = [row[4].split(":")[1] for row in rows if row[1].endswith(f":{self.port:04X}") and row[3] == "01"]
        return any(int(waiting, 16) for waiting in mine)

    def _until(self, query: str, run: str) -> None:
        """Looked at closely: some steps are over within milliseconds."""
        deadline = time.monotonic() + 60
        with contextlib.closing(sqlite3.connect(f"file:{self.w.home}/runner.db?mode=ro", uri=True)) as reading:
            (label,) = self._one(reading, "select name from jobs where name like ?", f"run-{run}-%", deadline)
            self._one(reading, query, label, deadline)

    def _one(self, reading: sqlite3.Connection, query: str, value: str, deadline: float) -> Any:
        while (row := reading.execute(query, (value,)).fetchone()) is None:
            assert time.monotonic() < deadline, (query, value, self.w.log())
            time.sleep(0.001)
        return row

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
        settings = {"forges": [forge], "policy": {"boot_timeout_s": BOOT_S}}
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
def test_a_command_whose_shell_alone_is_told_leaves_what_goes_by_itself(site: Site, at: str) -> None:
    """Without a post step: killed with the tree, it can take nothing back."""
    step = site.step(f"{IDLE_S}s", shell=True)
    with site.held(step, at):
        step.cancelled(scale=float(SCALE))
    assert site.nothing_left(step, BOOT_S + IDLE_S + ENDING_S) in how(at, "expired")


def test_a_step_that_is_cancelled_after_its_launch_leaves_it_to_its_idle_timeout(site: Site) -> None:
    """The jobs that it was launched for may still come, so the command is not there to be told."""
    step = site.step(f"{IDLE_S}s", shell=True)
    step.begin()
    assert step.entry is not None
    assert step.entry.wait(60) == 0
    step.killed()
    assert site.nothing_left(step, IDLE_S + ENDING_S) == ["expired"]


def test_a_runner_that_does_not_come_is_not_waited_for_longer_than_its_command_would_have(site: Site) -> None:
    """Its forge makes none, and the command that would have given up was killed."""
    step = site.step(NEVER, "--wait", "2s", shell=False)
    site.hub.troubles.append(Trouble("register", code="502", times=10**6))
    try:
        with site.held(step, "its machine is ready"):
            step.killed()
        assert site.nothing_left(step, 2.0 + 30.0 + ENDING_S) == ["cancelled"]
    finally:
        site.hub.troubles.clear()
    (job,) = site.jobs(step)
    events = site.client.get("/events", job=job["id"])
    assert [one["message"] for one in events if one["what"] == "runner.late"] == ["not online within 32 s"]
