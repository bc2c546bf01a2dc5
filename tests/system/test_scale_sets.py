"""A pool with a scale set, whole: a job queued at a GitHub with real state is told of by its messages alone; a real
controller, machine and agent serve it with a runner of the set; nothing is left, even if the controller is killed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.github.scale_sets import ScaleSet
from tests.fakes.github.server import FakeGitHub
from tests.fakes.github.state import Job
from tests.fakes.ports import free_port, listening
from tests.system.hub import open_hub
from tests.system.served import served
from tests.system.test_pools import NEVER_S, TOKEN, tell_who_asks
from tests.system.world import World, world

pytestmark = pytest.mark.system


@pytest.fixture
def hub() -> Iterator[FakeGitHub]:
    with open_hub() as made:
        made.scale_sets.poll_s, made.scale_sets.session_s = 1.0, 2.0
        yield made


@pytest.fixture
def w(tmp_path: Path, hub: FakeGitHub) -> Iterator[World]:
    """No webhook comes, and nothing is polled but once at the beginning."""
    with world(tmp_path) as made:
        made.home.mkdir(parents=True, exist_ok=True)
        pool = {"name": "gpu", "sites": [f"{hub.url}/acme/vision"], "labels": ["gpu-set"], "max": 2, "scale_set": True}
        settings = {
            "forges": [{"kind": "github", "url": hub.url, "token_env": "HUB_TOKEN"}],
            "pools": [{**pool, "idle_timeout": "20s"}],
            "policy": {"poll_every_s": NEVER_S, "poll_silent_s": NEVER_S},
        }
        (made.home / "settings.yaml").write_text(json.dumps(settings))
        made.extra["HUB_TOKEN"] = TOKEN
        yield made


def listened(w: World, hub: FakeGitHub) -> ScaleSet:
    w.until(lambda: hub.scale_sets.rooms, 40, "messages to be asked for")
    assert set(hub.scale_sets.rooms) == {2}
    return hub.scale_sets.sets[0]


def gone(w: World, hub: FakeGitHub, job: Job) -> None:
    w.until(lambda: job.status == "completed", 90, "the job to be served")
    w.until(lambda: not w.json("machines"), 60, "the machine to go")
    assert (job.conclusion, hub.state.living("acme/vision")) == ("success", [])
    (made,) = w.json("ps", "-a")
    assert (made["spec"]["name"], made["outcome"]) == ("pool/gpu", "succeeded")


def test_a_queued_job_is_told_of_served_by_a_runner_of_the_set_and_nothing_is_left(w: World, hub: FakeGitHub) -> None:
    port = free_port()
    with served(w, port=port):
        tell_who_asks(w, port)
        mine = listened(w, hub)
        job = hub.state.add_run("acme/vision", [["gpu-set"]]).latest[0]
        gone(w, hub, job)
        assert job.runner is not None
        assert job.runner.set_id == mine.id
        w.until(lambda: not mine.messages, 20, "all to be confirmed")
    assert mine.session is None  # it was left when the controller ended


def test_killed_before_the_acknowledgement_the_job_is_neither_lost_nor_served_twice(w: World, hub: FakeGitHub) -> None:
    port = free_port()
    hub.scale_sets.deaf = True
    killed = subprocess.Popen(w.command("serve", "--port", str(port)), env=w.environment)
    try:
        w.until(lambda: listening(port), 20, "the port to open")
        mine = listened(w, hub)
        job = hub.state.add_run("acme/vision", [["gpu-set"]]).latest[0]
        w.until(lambda: "confirm" in hub.scale_sets.asked, 30, "the job to be stored")
    finally:
        killed.kill()
        killed.wait()
    assert mine.deleted == []
    hub.scale_sets.deaf = False
    hub.scale_sets.asked.clear()
    with served(w, port=port):
        tell_who_asks(w, port)
        gone(w, hub, job)
        w.until(lambda: not mine.messages, 60, "all to be confirmed")
        assert mine.deleted == sorted(set(mine.deleted))
