"""Pools whole: a job queued at a GitHub with real state, its webhook, a real controller, machine and agent, and the
stand-in for the runner program, which serves the job; then nothing is left anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.github.apps import TOKEN
from tests.fakes.github.server import FakeGitHub
from tests.fakes.ports import free_port
from tests.system.hub import open_hub
from tests.system.served import served
from tests.system.world import World, world

pytestmark = pytest.mark.system
SECRET = "the secret of the webhooks"
NEVER_S = 86400.0


@pytest.fixture
def hub() -> Iterator[FakeGitHub]:
    with open_hub() as made:
        yield made


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def settle(w: World, hub: FakeGitHub, port: int, most: int = 2, **policy: float) -> None:
    """A controller whose only pool is fed by that GitHub's webhooks: it polls once, and never again."""
    w.home.mkdir(parents=True, exist_ok=True)
    (w.home / "hook-secret").write_text(f"{SECRET}\n")
    forge = {"kind": "github", "url": hub.url, "token_env": "HUB_TOKEN", "webhook_secret_file": "hook-secret"}
    pool = {"name": "gpu", "sites": [f"{hub.url}/acme/vision"], "labels": ["gpu"], "max": most, "idle_timeout": "20s"}
    settings = {
        "public_url": f"http://127.0.0.1:{port}",
        "forges": [forge],
        "pools": [pool],
        "policy": {"poll_every_s": NEVER_S, "poll_silent_s": NEVER_S, **policy},
    }
    (w.home / "settings.yaml").write_text(json.dumps(settings))
    w.extra["HUB_TOKEN"] = TOKEN
    hub.hooks.add("acme/vision", f"http://127.0.0.1:{port}/hooks/github", SECRET)


def served_and_gone(w: World, hub: FakeGitHub) -> None:
    job = hub.state.add_run("acme/vision", [["gpu"]]).latest[0]
    w.until(lambda: job.status == "completed", 90, "the job to be served")
    w.until(lambda: not w.json("machines"), 60, "the machine to go")
    assert (job.conclusion, hub.state.living("acme/vision")) == ("success", [])


def tell_who_asks(w: World, port: int) -> None:
    token = w.json("token", "create", "ann")["token"]
    w.extra |= {"RUNNER_SERVER": f"http://127.0.0.1:{port}", "RUNNER_TOKEN": token}


def test_a_queued_job_is_told_of_served_and_nothing_is_left(w: World, hub: FakeGitHub) -> None:
    port = free_port()
    settle(w, hub, port)
    with served(w, port=port):
        tell_who_asks(w, port)
        served_and_gone(w, hub)
        (made,) = w.json("ps", "-a")
        assert (made["spec"]["name"], made["outcome"]) == ("pool/gpu", "succeeded")


def test_a_webhook_that_was_lost_is_sent_again(w: World, hub: FakeGitHub) -> None:
    port = free_port()
    settle(w, hub, port, redeliver_every_s=2.0)
    hub.hooks.mischief.lose = 1.0
    with served(w, port=port):
        tell_who_asks(w, port)
        served_and_gone(w, hub)
        assert hub.hooks.mischief.lost > 0


def test_without_the_right_secret_nothing_is_launched(w: World, hub: FakeGitHub) -> None:
    port = free_port()
    settle(w, hub, port)
    (w.home / "hook-secret").write_text("another secret\n")
    with served(w, port=port):
        tell_who_asks(w, port)
        hub.state.add_run("acme/vision", [["gpu"]])
        w.until(lambda: [e for e in w.json("events") if e["what"] == "webhook.refused"], 20, "the refusal to be told")
        assert (w.json("ps", "-a"), w.json("machines")) == ([], [])


@pytest.mark.timeout(900)
def test_twenty_jobs_at_once_all_run_and_never_more_machines_than_the_pool_may_have(w: World, hub: FakeGitHub) -> None:
    """Each by an agent and a runner of its own; of their webhooks, some come twice."""
    port, most = free_port(), 6
    settle(w, hub, port, most=most)
    hub.hooks.mischief.double = 0.3
    with served(w, port=port):
        tell_who_asks(w, port)
        jobs = [hub.state.add_run("acme/vision", [["gpu"]]).latest[0] for _ in range(20)]
        for job in jobs:
            job.steps = [{"name": "train", "run": "sleep 1"}]
        seen: list[int] = []

        def over() -> bool:
            seen.append(len(alive(w)))
            return all(job.status == "completed" for job in jobs)

        w.until(over, 400, "the jobs to be served")
        assert [job.conclusion for job in jobs] == ["success"] * 20
        assert len({job.runner.name for job in jobs if job.runner}) == 20
        w.until(lambda: not w.json("machines"), 120, "the machines to go")
        assert 1 < max(seen) <= most
        assert hub.hooks.mischief.doubled > 0
        assert hub.state.living("acme/vision") == []
        ours = w.json("ps", "-a")
        assert {job["outcome"] for job in ours if job["attempts"]} == {"succeeded"}
        assert sum(job["outcome"] == "succeeded" for job in ours) == 20
        assert most_at_once(w) <= most
        w.until(lambda: not alive(w), 30, "processes to end")


def alive(w: World) -> set[str]:
    """Machines of this host that there are, by what keeps each one's agent going."""
    return {line[-1] for line in w.processes().values() if "respawn" in line}


def most_at_once(w: World) -> int:
    """Of instances from their plan until they are gone, as the events tell."""
    now = most = 0
    for event in w.json("events"):
        now += {"instance.planned": 1, "instance.gone": -1}.get(event["what"], 0)
        most = max(most, now)
    return most
