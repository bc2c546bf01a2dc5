"""`runner launch` beside a controller that stays: real command, controller, machine and agent, a GitHub with real state
over HTTP, and a stand-in for its runner program that takes a job of it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.github.apps import TOKEN
from tests.fakes.github.server import FakeGitHub, trouble
from tests.fakes.github.state import Job
from tests.system.hub import open_hub
from tests.system.served import served
from tests.system.world import World, world

pytestmark = pytest.mark.system


@pytest.fixture
def hub() -> Iterator[FakeGitHub]:
    with open_hub() as made:
        yield made


@pytest.fixture
def w(tmp_path: Path, hub: FakeGitHub) -> Iterator[World]:
    """Somebody's computer, with a token that opens that GitHub."""
    with world(tmp_path) as made:
        made.extra |= {"RUNNER_FORGE_TOKEN": TOKEN}
        yield made


def launch(hub: FakeGitHub, *words: str) -> tuple[str, ...]:
    return ("launch", "--repo", f"{hub.url}/acme/vision", "--forge", "github", *words)


def queued(hub: FakeGitHub, *labels: str) -> Job:
    run = hub.state.add_run("acme/vision", [list(labels)])
    return run.latest[0]


def records(hub: FakeGitHub) -> list[str]:
    return [one.name for one in hub.state.living("acme/vision")]


def test_a_launched_runner_takes_the_runs_job_and_no_other_and_is_gone(w: World, hub: FakeGitHub) -> None:
    other = queued(hub, "gpu")
    done = w.run(*launch(hub))
    label = done.stdout.decode().strip()
    (name,) = records(hub)
    assert f"{name} is online at {hub.url}/acme/vision" in done.stderr.decode()
    mine = queued(hub, label)
    w.until(lambda: mine.status == "completed", 60, "the job to be served")
    assert (mine.conclusion, mine.runner and mine.runner.name, other.status) == ("success", name, "queued")
    (job,) = w.json("ps", "-a")
    w.wait_done(job["id"])
    shown = w.job(job["id"])
    assert (shown["outcome"], [row["name"] for row in shown["runners"]]) == ("succeeded", [name])
    assert all(shown["runners"][0][key] for key in ("online_at", "busy_at", "gone_at"))
    w.nothing_left()
    assert records(hub) == []
    held = subprocess.run(["grep", "-rla", TOKEN, str(w.home)], capture_output=True, check=False).stdout
    assert held == b""


def test_one_that_is_ended_while_it_waits_leaves_nothing_anywhere(w: World, hub: FakeGitHub) -> None:
    hub.archives = []  # its program cannot be had, so that it never comes
    running = subprocess.Popen(w.command(*launch(hub, "--count", "2")), env=w.environment, stderr=subprocess.PIPE)
    w.until(lambda: len(w.json("ps")) == 2, 60, "the jobs to be stored")
    running.send_signal(signal.SIGTERM)
    _, said = running.communicate(timeout=30)
    assert running.returncode == 130, said
    w.until(lambda: not w.json("ps"), 60, "the jobs to be cancelled")
    w.nothing_left()
    assert records(hub) == []


def test_an_idle_runner_goes_by_itself(w: World, hub: FakeGitHub) -> None:
    w.run(*launch(hub, "--idle-timeout", "6s"))
    w.until(lambda: not records(hub), 60, "the runner to go")
    w.nothing_left()


def test_one_for_many_jobs_serves_each_with_a_runner_of_its_own_until_none_comes(w: World, hub: FakeGitHub) -> None:
    """The second is asked for when the first has ended; both on one machine."""
    label = w.run(*launch(hub, "--jobs", "many", "--idle-timeout", "6s")).stdout.decode().strip()
    (name,) = records(hub)
    both = [_served(w, hub, label), _served(w, hub, label)]
    assert both == [("success", name), ("success", f"{name}-2")]
    (job,) = w.json("ps", "-a")
    w.wait_done(job["id"])
    shown = w.job(job["id"])
    assert (shown["outcome"], shown["reason"]) == ("succeeded", {"why": "idle", "detail": "no job came within 6 s"})
    assert [row["name"] for row in shown["runners"]] == [name, f"{name}-2", f"{name}-3"]
    assert [row["reason"]["why"] for row in shown["attempts_list"]] == ["served", "served", "idle"]
    w.nothing_left()
    assert records(hub) == []
    assert [one["what"] for one in w.json("events")].count("instance.planned") == 1


def _served(w: World, hub: FakeGitHub, label: str) -> tuple[str | None, str]:
    """A job asks for the label: how it ended, and whose it was."""
    job = queued(hub, label)
    w.until(lambda: job.status == "completed", 60, "the job to be served")
    assert job.runner is not None
    return job.conclusion, job.runner.name


def test_its_controller_does_not_leave_before_the_forge_has_let_it_go(w: World, hub: FakeGitHub) -> None:
    w.home.mkdir(parents=True, exist_ok=True)
    (w.home / "settings.yaml").write_text(json.dumps({"policy": {"embedded_idle_s": 1.0}}))
    w.run(*launch(hub))
    (pid,) = w.pids("controller")
    hub.troubles.append(trouble("remove", "before", times=10_000))
    (job,) = w.json("ps")
    w.run("cancel", job["id"], "--now")
    w.until(lambda: not w.json("machines") and not w.json("ps"), 60, "the machine to be gone")
    tried = hub.asked()
    w.until(lambda: hub.asked() > tried + 3, 60, "it to be tried again and again")
    assert (w.pids("controller"), len(records(hub))) == ([pid], 1)
    hub.troubles.clear()
    w.until(lambda: not records(hub), 60, "the record to be removed")
    w.until(lambda: not w.pids("controller"), 30, "the controller to leave")


def test_rights_lost_by_a_restart_are_trouble_until_they_are_handed_over(w: World, hub: FakeGitHub) -> None:
    w.run(*launch(hub))
    (name,) = records(hub)
    w.kill("controller")
    del w.extra["RUNNER_FORGE_TOKEN"]
    (job,) = w.json("ps")
    w.until(lambda: b"no runners at" in w.run("ps").stderr, 30, "the trouble to be said")
    w.run("cancel", job["id"])
    w.until(lambda: [e for e in w.json("events") if e["what"] == "runner.not_removed"], 30, "a removal to be refused")
    assert records(hub) == [name]
    w.extra["RUNNER_FORGE_TOKEN"] = TOKEN
    w.run("gc", "--dry-run")
    w.until(lambda: not records(hub), 30, "the record to be removed")
    assert w.wait_done(job["id"])["outcome"] == "cancelled"
    w.nothing_left()


def test_a_served_controller_has_its_rights_from_its_settings(w: World, hub: FakeGitHub, tmp_path: Path) -> None:
    del w.extra["RUNNER_FORGE_TOKEN"]
    w.home.mkdir(parents=True, exist_ok=True)
    forge = {"kind": "github", "url": hub.url, "token_env": "HUB_TOKEN"}
    (w.home / "settings.yaml").write_text(json.dumps({"forges": [forge]}))
    w.extra["HUB_TOKEN"] = TOKEN
    with served(w) as port:
        token = w.json("token", "create", "ann")["token"]
        w.extra |= {"RUNNER_SERVER": f"http://127.0.0.1:{port}", "RUNNER_TOKEN": token}
        label = w.run(*launch(hub)).stdout.decode().strip()
        mine = queued(hub, label)
        w.until(lambda: mine.status == "completed", 60, "the job to be served")
        w.until(lambda: not w.json("machines"), 60, "the machine to go")
