"""A step that is cancelled while it launches a runner without a controller to talk to: real command, controller of its
own, machine and agent, and a GitHub with real state over HTTP.

At each step that controller is held still until the command was signalled. Where nobody is left to take anything back,
what is there is gone at the boot deadline if its agent has not joined, else within the idle timeout.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.github.server import FakeGitHub
from tests.system.cancelling import STEPS, Step, still, until
from tests.system.hub import open_hub
from tests.system.world import SCALE, World, world
from tests.unit.cli.step import github

pytestmark = pytest.mark.system
TOKEN = "ghp_classic-token-of-ada"
BOOT_S, IDLE_S = 20.0, 6.0  # the two limits of what nobody looks after; a scaled poll is 1.25 s
ENDING_S = 10.0  # what may pass until all processes have ended
NEVER = "10m"  # an idle timeout that no test waits for


@dataclass
class Site:
    """A step's surroundings, without RUNNER_SERVER; what is thrown away is in `short`."""

    w: World
    hub: FakeGitHub
    short: Path

    def database(self) -> Path | None:
        return next(self.short.glob("runner-step-*/runner.db"), None)

    @contextlib.contextmanager
    def held(self, step: Step, at: str) -> Iterator[Callable[[], None]]:
        """The step is begun, and its own controller stands still at that point, until what is given is called."""
        with still(self.w) as (hold, let_go):
            step.begin()
            until(self.database, at, step.run, self.log)
            hold()
            yield let_go

    def log(self) -> str:
        return "".join(path.read_text()[-4000:] for path in self.short.glob("runner-step-*/controller.log"))

    def consoles(self) -> str:
        return "".join(path.read_text() for path in (self.w.home / "machines").glob("runner-*/console.log"))

    def taken_back(self) -> None:
        """Nothing is there, at the forge either, nor what was to be thrown away."""
        self.w.until(lambda: not self.w.processes(), ENDING_S + 20.0, f"processes to end: {self.log()}")
        machines = list((self.w.home / "machines").glob("runner-*"))
        assert (self.hub.state.living("acme/vision"), machines, list(self.short.iterdir())) == ([], [], [])

    def ends_itself(self) -> None:
        """With nobody there, within the limit that is its own."""
        joined = bool(list((self.w.home / "machines").glob("runner-*/state/session.json")))
        limit_s, why = (IDLE_S, "controller silent for more than") if joined else (BOOT_S, "never joined within 20 s")
        self.w.until(lambda: not self.w.processes(), limit_s + ENDING_S, f"{why}: {self.consoles()}")
        ended = [line for line in self.consoles().splitlines() if '"machine.ending"' in line]
        assert all(why in line for line in ended), ended
        assert ended or not joined


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with open_hub() as hub, tempfile.TemporaryDirectory(prefix="st-") as short, world(tmp_path) as w:
        (tmp_path / "step").mkdir()
        w.home.mkdir()
        (w.home / "settings.yaml").write_text(json.dumps({"policy": {"boot_timeout_s": BOOT_S}}))
        here = {"GITHUB_SERVER_URL": hub.url, "GITHUB_API_URL": f"{hub.url}/api/v3", "RUNNER_FORGE_TOKEN": TOKEN}
        w.extra |= github(tmp_path / "step") | here | {"TMPDIR": short}
        yield Site(w, hub, Path(short))


@pytest.mark.parametrize("first", [0, 1], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("at", STEPS)
def test_a_command_that_took_the_shells_place_takes_back_what_it_launched(site: Site, at: str, first: int) -> None:
    """On GitHub's own timing, which it need not use up."""
    step = Step(site.w, NEVER, shell=False)
    with site.held(step, at) as let_go:
        step.cancelled(first, told=let_go)
    assert step.entry is not None
    assert step.entry.returncode == 130, step.entry.stdout and step.entry.stdout.read()
    site.taken_back()


@pytest.mark.parametrize("at", STEPS)
def test_a_command_that_is_killed_is_made_good_by_its_controller(site: Site, at: str) -> None:
    """Nothing but the command is signalled, and by what it cannot hear; there is no post step."""
    step = Step(site.w, NEVER, shell=True)
    with site.held(step, at):
        os.kill(step.child(), signal.SIGKILL)
        assert step.entry is not None
        assert step.entry.wait(10) == 128 + signal.SIGKILL
    site.taken_back()


@pytest.mark.parametrize("at", STEPS)
def test_a_tree_that_is_killed_after_its_shell_alone_was_told_leaves_what_goes_by_itself(site: Site, at: str) -> None:
    """The controller is of that tree, too, so nobody is left to take anything back."""
    step = Step(site.w, f"{IDLE_S:g}s", shell=True)
    with site.held(step, at):
        step.cancelled(scale=float(SCALE))
        site.w.kill("controller")
    site.ends_itself()


@pytest.mark.parametrize("at", ["it is stored", "its machine is launching", "it is online"])
def test_a_command_whose_shell_alone_is_killed_goes_on_and_its_machine_goes_when_idle(site: Site, at: str) -> None:
    """Nobody kills its tree. The record of a runner that had no job is GitHub's to remove."""
    step = Step(site.w, f"{IDLE_S:g}s", shell=True)
    with site.held(step, at) as let_go:
        said = step.shell_killed(let_go)
    assert b" looks after itself now: " in said
    assert list(site.short.iterdir()) == []
    (record,) = site.hub.state.living("acme/vision")
    site.w.until(lambda: not site.w.processes(), IDLE_S + ENDING_S, f"the machine to end: {site.consoles()}")
    (ended,) = [line for line in site.consoles().splitlines() if '"machine.ending"' in line]
    assert "its runner has ended" in ended
    assert record.session == ""
