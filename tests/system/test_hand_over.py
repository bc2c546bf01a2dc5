"""`runner launch` in a CI step that has no controller to talk to: its own hands the machine over, and is gone.

Real command, controller, machine and agent, a GitHub with real state over HTTP, and a stand-in for its runner program.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import standin_runner
from tests.fakes.github.server import FakeGitHub
from tests.fakes.github.state import Job
from tests.system.hub import open_hub
from tests.system.world import World, world
from tests.unit.cli.step import github

pytestmark = pytest.mark.system
TOKEN = "ghp_classic-token-of-ada"


@pytest.fixture
def hub() -> Iterator[FakeGitHub]:
    with open_hub() as made:
        yield made


@pytest.fixture
def w(tmp_path: Path, hub: FakeGitHub) -> Iterator[World]:
    """A step of a workflow of that GitHub, without RUNNER_SERVER. What is thrown away has a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="st-") as short, world(tmp_path) as made:
        work = tmp_path / "step"
        work.mkdir()
        here = {"GITHUB_SERVER_URL": hub.url, "GITHUB_API_URL": f"{hub.url}/api/v3", "RUNNER_FORGE_TOKEN": TOKEN}
        made.extra |= github(work) | here | {"TMPDIR": short}
        yield made


def _sleeper() -> bytes:
    """A runner program that never comes online."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        data = b"#!/bin/sh\nexec sleep 984\n"
        entry = tarfile.TarInfo("bin/Runner.Listener")
        entry.size, entry.mode = len(data), 0o755
        archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def queued(hub: FakeGitHub, *labels: str) -> Job:
    run = hub.state.add_run("acme/vision", [list(labels)])
    return run.latest[0]


def records(hub: FakeGitHub) -> list[str]:
    return [one.name for one in hub.state.living("acme/vision")]


def thrown_away(w: World) -> list[str]:
    """What there is of homes that go with their step."""
    return [one.name for one in Path(w.extra["TMPDIR"]).iterdir() if one.name.startswith("runner-step-")]


def state(w: World) -> dict[str, Any]:
    """What the one machine has on its disk of the hand-over; {} before."""
    (machine,) = (w.home / "machines").glob("runner-*")
    path = machine / "state" / "handed-over.json"
    return json.loads(path.read_text()) if path.exists() else {}


def tags(w: World) -> dict[str, str]:
    (machine,) = (w.home / "machines").glob("runner-*")
    found: dict[str, str] = json.loads((machine / "machine.json").read_text())["tags"]
    return found


def controllers(w: World) -> list[int]:
    return w.pids("controller")


def gone(w: World, timeout_s: float = 60) -> None:
    w.until(lambda: not w.processes(), timeout_s, f"everything to end: {w.processes()}")


def test_its_controller_is_gone_and_the_runner_serves_its_job_and_is_gone(w: World, hub: FakeGitHub) -> None:
    done = w.run("launch", "--max-lifetime", "10m")
    label, said = done.stdout.decode().strip(), done.stderr.decode()
    (name,) = records(hub)
    assert (controllers(w), thrown_away(w)) == ([], [])
    assert f"runner: {name} looks after itself now: at most $0.00 ($0/h for 0.1667 h); it ends by itself by 2" in said
    summary = Path(w.extra["GITHUB_STEP_SUMMARY"]).read_text()
    assert f"| `{name}` | local local this-host on-demand $0/h | at most $0.00 ($0/h for 0.1667 h); it ends" in summary
    assert "handed-over" in tags(w)
    assert state(w)["over"]["runner"] == name
    assert state(w)["over"]["on_end"] == "exit"
    mine = queued(hub, label)
    w.until(lambda: mine.status == "completed", 60, "the job to be served")
    assert (mine.conclusion, mine.runner and mine.runner.name) == ("success", name)
    gone(w)
    assert records(hub) == []
    assert subprocess.run(["grep", "-rla", TOKEN, str(w.home)], capture_output=True, check=False).stdout == b""


def test_without_a_job_it_goes_by_itself_and_silence_does_not_end_it_before(w: World, hub: FakeGitHub) -> None:
    """Its silence limit would be 2 s, its idle limit is the agent's own; its record is GitHub's to remove, or gc's."""
    w.home.mkdir(parents=True)
    (w.home / "settings.yaml").write_text("policy: {agent_silence_s: 2, orphan_s: 2}\n")
    w.run("launch", "--idle-timeout", "8s")
    agent = w.pids("agent")
    w.holds(lambda: w.pids("agent") == agent, 5)
    gone(w, 30)
    (name,) = records(hub)
    at_once = ("gc", "--repo", f"{hub.url}/acme/vision", "--older-than", "0s", "--wait", "1s")
    assert b"nothing to collect" in w.run(*at_once[:3]).stderr
    assert w.run(*at_once).stdout.decode() == f"{name} ended\n"
    assert records(hub) == []


def test_an_agent_that_is_killed_goes_on_with_what_is_on_its_disk(w: World, hub: FakeGitHub) -> None:
    label = w.run("launch", "--idle-timeout", "20s").stdout.decode().strip()
    before = state(w)
    (old,) = w.pids("agent")
    assert w.kill("agent") == 1
    w.until(lambda: (now := w.pids("agent")) and now != [old], 30, "the next agent")
    mine = queued(hub, label)
    w.until(lambda: mine.status == "completed", 60, "the job to be served")
    assert mine.conclusion == "success"
    assert state(w) == before
    gone(w)


def test_its_lifetime_ends_a_job_that_takes_too_long(w: World, hub: FakeGitHub) -> None:
    label = w.run("launch", "--max-lifetime", "12s").stdout.decode().strip()
    with hub.state.lock:
        long = queued(hub, label)
        long.steps = [{"name": "train", "run": "sleep 600"}]
    w.until(lambda: long.status == "in_progress", 30, "the job to begin")
    gone(w, 40)
    assert long.conclusion == "cancelled"


def test_its_controller_may_be_killed_on_the_way(w: World, hub: FakeGitHub) -> None:
    running = subprocess.Popen(w.command("launch"), env=w.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    w.until(lambda: w.pids("agent"), 60, "the machine")
    assert w.kill("controller") == 1
    label, said = running.communicate(timeout=90)
    assert running.returncode == 0, said
    assert (controllers(w), thrown_away(w)) == ([], [])
    mine = queued(hub, label.decode().strip())
    w.until(lambda: mine.status == "completed", 60, "the job to be served")
    gone(w)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_step_that_is_ended_while_it_waits_leaves_nothing(w: World, hub: FakeGitHub, number: signal.Signals) -> None:
    """Whatever it was told: its controller notices that it is alone."""
    hub.publish(_sleeper(), standin_runner.VERSION)
    running = subprocess.Popen(w.command("launch"), env=w.environment, stderr=subprocess.PIPE)
    w.until(lambda: w.pids("agent"), 60, "the machine")
    running.send_signal(number)
    _, said = running.communicate(timeout=30)
    assert running.returncode == (130 if number is signal.SIGTERM else -number), said
    gone(w)
    assert (records(hub), thrown_away(w)) == ([], [])
    assert list((w.home / "machines").glob("runner-*")) == []


def test_killed_with_its_controller_before_the_hand_over_the_machine_ends_at_its_limits(
    w: World, hub: FakeGitHub
) -> None:
    hub.publish(_sleeper(), standin_runner.VERSION)
    words = w.command("launch", "--idle-timeout", "6s")
    running = subprocess.Popen(words, env=w.environment, stderr=subprocess.DEVNULL)
    w.until(lambda: w.pids("agent"), 60, "the machine")
    w.until(lambda: list((w.home / "machines").glob("runner-*/state/session.json")), 30, "it to join")
    running.kill()
    w.kill("controller")
    running.wait(10)
    gone(w, 20)


def test_killed_with_its_controller_after_the_hand_over_the_runner_serves_its_job(w: World, hub: FakeGitHub) -> None:
    running = subprocess.Popen(
        w.command("launch"), env=w.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    w.until(lambda: list((w.home / "machines").glob("runner-*/state/handed-over.json")), 60, "the acknowledgement")
    running.send_signal(signal.SIGSTOP)  # so that neither notices that the other is gone
    w.kill("controller")
    running.kill()
    running.wait(10)
    (name,) = records(hub)
    (record,) = hub.state.living("acme/vision")
    mine = queued(hub, *record.labels)
    w.until(lambda: mine.status == "completed", 60, "the job to be served")
    assert (mine.conclusion, mine.runner and mine.runner.name) == ("success", name)
    gone(w)


def test_if_one_of_two_does_not_come_the_one_that_has_acknowledged_is_taken_back(w: World, hub: FakeGitHub) -> None:
    """The second is online when its machine is lost, and the forge refuses its successor's program."""
    running = subprocess.Popen(w.command("launch", "--count", "2"), env=w.environment, stderr=subprocess.PIPE)
    one, other = w.until(lambda: (found := agents(w)) and len(found) == 2 and found, 60, "two machines").items()
    os.kill(one[1], signal.SIGSTOP)
    w.until(lambda: online(hub) == [other[0]], 30, "the other to come")
    os.kill(other[1], signal.SIGSTOP)
    os.kill(one[1], signal.SIGCONT)
    w.until(lambda: acknowledged(w) == [one[0]], 30, "the acknowledgement")
    hub.refused_versions.add(standin_runner.VERSION)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 125
    assert b" failed before it was handed over: version-refused: " in said
    assert b"looks after itself" not in said
    gone(w, 30)
    assert (records(hub), thrown_away(w)) == ([], [])
    assert list((w.home / "machines").glob("runner-*")) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_is_ended_before_it_has_heard_the_acknowledgement_leaves_nothing(
    w: World, hub: FakeGitHub, number: signal.Signals
) -> None:
    """Its controller has heard it: the machine is taken back all the same, since the step does not exit 0."""
    running = subprocess.Popen(w.command("launch"), env=w.environment, stderr=subprocess.PIPE)
    ((name, agent),) = w.until(lambda: agents(w), 60, "the machine").items()
    w.until(lambda: online(hub), 30, "the runner to come")
    os.kill(agent, signal.SIGSTOP)
    w.until(lambda: "handed-over" in tags(w), 30, "the command to ask")
    running.send_signal(signal.SIGSTOP)
    os.kill(agent, signal.SIGCONT)
    w.until(lambda: acknowledged(w) == [name], 30, "the acknowledgement")
    running.send_signal(number)
    running.send_signal(signal.SIGCONT)
    _, said = running.communicate(timeout=30)
    assert running.returncode == (-number if number is signal.SIGKILL else 130), said
    assert b"looks after itself" not in said
    gone(w, 30)
    assert (records(hub), thrown_away(w)) == ([], [])
    assert list((w.home / "machines").glob("runner-*")) == []


def agents(w: World) -> dict[str, int]:
    """Pids, by their machines."""
    lines = {pid: "\0".join(line) for pid, line in w.processes().items() if pid in w.pids("agent")}
    return {name: pid for pid, line in lines.items() for name in w.machine_names() if name in line}


def online(hub: FakeGitHub) -> list[str]:
    return [one.name for one in hub.state.living("acme/vision") if one.session]


def acknowledged(w: World) -> list[str]:
    return [path.parts[-3] for path in (w.home / "machines").glob("runner-*/state/handed-over.json")]


def test_only_an_overdue_one_is_collected(w: World, hub: FakeGitHub) -> None:
    w.run("launch", "--max-lifetime", "10m")
    (name,) = [one.name for one in (w.home / "machines").glob("runner-*")]
    assert b"nothing to collect" in w.run("gc", "--expired").stderr
    path = w.home / "machines" / name / "machine.json"
    kept = json.loads(path.read_text())
    kept["tags"]["expires-at"] = "2026-01-01T00:00:00+00:00"
    path.write_text(json.dumps(kept))
    assert w.run("gc").stdout == b""
    assert w.pids("agent")
    assert w.run("gc", "--expired").stdout.decode() == f"{name} ended\n"
    w.until(lambda: not w.pids("agent"), 30, "the machine to end")
    assert not path.exists()


def test_a_workflows_own_token_cannot_and_what_can_is_said(w: World, hub: FakeGitHub) -> None:
    del w.extra["RUNNER_FORGE_TOKEN"]
    w.extra["GITHUB_TOKEN"] = "ghs_of-the-workflow"
    done = w.run("launch", check=False)
    (line,) = done.stderr.decode().splitlines()
    assert (done.returncode, records(hub), thrown_away(w)) == (3, [], [])
    assert line.startswith(f"runner: a workflow's own GITHUB_TOKEN cannot make runners ({hub.url}/acme/vision was not")
