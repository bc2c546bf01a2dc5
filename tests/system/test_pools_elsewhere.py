"""Pools whole at a GitLab, a Gitea or a Forgejo with real state: a queued job that is told of by webhook or found by
asking, a real controller, machine and agent, and the stand-in for the runner program, which serves the job; then
nothing is left anywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.forge_http import Asked
from tests.fakes.ports import free_port
from tests.system.elsewhere import REPOSITORY, Elsewhere, open_lab, open_tea
from tests.system.served import served
from tests.system.world import World, world

pytestmark = pytest.mark.system
SECRET = "the secret of the webhooks"
NEVER_S = 86400.0
FORGES = {"gitlab": open_lab, "gitea": open_tea, "forgejo": partial(open_tea, "17.0.1+gitea-1.22.0")}


@pytest.fixture
def there(request: pytest.FixtureRequest) -> Iterator[Elsewhere]:
    opened: AbstractContextManager[Elsewhere] = FORGES[request.param]()
    with opened as made:
        yield made


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


at = partial(pytest.mark.parametrize, "there", indirect=True)


def settle(w: World, there: Elsewhere, port: int, poll_s: float, **pool: object) -> None:
    """A controller whose only pool is fed by that forge's webhooks, and by asking so often."""
    w.home.mkdir(parents=True, exist_ok=True)
    (w.home / "hook-secret").write_text(f"{SECRET}\n")
    sites, url = [f"{there.server.url}/{REPOSITORY}"], f"http://127.0.0.1:{port}"
    settings = {
        "public_url": url,
        "forges": [{**there.settings(), "webhook_secret_file": "hook-secret"}],
        "pools": [{"name": "gpu", "sites": sites, "labels": ["gpu"], "max": 2, "idle_timeout": "20s", **pool}],
        "policy": {"poll_every_s": poll_s, "poll_silent_s": poll_s},
    }
    (w.home / "settings.yaml").write_text(json.dumps(settings))
    w.extra["FORGE_TOKEN"] = there.token
    there.server.hooks.add(REPOSITORY, f"{url}/hooks/{there.kind}", SECRET)


def served_and_gone(w: World, there: Elsewhere, job: Any, outcome: str = "succeeded") -> None:
    w.until(lambda: job.status == "success", 90, f"the job to be served, which is {job.status}")
    w.until(lambda: not w.json("machines"), 60, "the machine to go")
    w.until(lambda: not there.runners(), 30, f"runners' records to go: {there.runners()}")
    (made,) = w.json("ps", "-a")
    assert (made["spec"]["name"], made["outcome"]) == ("pool/gpu", outcome)


def tell_who_asks(w: World, port: int) -> None:
    token = w.json("token", "create", "ann")["token"]
    w.extra |= {"RUNNER_SERVER": f"http://127.0.0.1:{port}", "RUNNER_TOKEN": token}


@at(argvalues=["gitlab", "gitea"])
def test_a_queued_job_is_told_of_served_and_nothing_is_left(w: World, there: Elsewhere) -> None:
    """It is polled once, before there is any. One that is held back is told of too, and brings no machine."""
    port = free_port()
    settle(w, there, port, NEVER_S)
    there.server.hooks.mischief.double = 1.0
    with served(w, port=port):
        tell_who_asks(w, port)
        job = there.queue(["gpu"])
        held = there.hold(job)
        served_and_gone(w, there, job)
        assert held.status in ("manual", "blocked")
        assert there.server.hooks.mischief.doubled > 3


@at(argvalues=["gitlab", "gitea", "forgejo"])
def test_a_job_whose_webhooks_are_lost_is_found_by_asking(w: World, there: Elsewhere) -> None:
    """Of a Forgejo's jobs no webhook ever tells."""
    port = free_port()
    settle(w, there, port, 2.0)
    there.server.hooks.mischief.lose = 1.0
    with served(w, port=port):
        tell_who_asks(w, port)
        served_and_gone(w, there, there.queue(["gpu"]))
        assert (there.server.hooks.mischief.lost > 0) == (not getattr(there.server, "forgejo", False))


@at(argvalues=["gitlab", "gitea"])
def test_a_runner_that_gets_a_job_just_as_it_is_removed_serves_it(w: World, there: Elsewhere) -> None:
    """It came for a job that was cancelled meanwhile, and has waited for long enough."""
    port = free_port()
    settle(w, there, port, NEVER_S, idle_timeout="2s")
    first, late = there.queue(["gpu"]), []

    def meddle(asked: Asked) -> None:
        if re.fullmatch(there.making, asked.name) and first.runner == 0:
            there.cancel(first)
        elif re.fullmatch(there.stopping, asked.name) and not late:
            there.server.hooks.mischief.lose = 1.0
            late.append(there.queue(["gpu"]))
            w.until(lambda: late[0].runner, 20, "the runner to be given the job")

    there.server.before = meddle
    with served(w, port=port):
        tell_who_asks(w, port)
        w.until(lambda: late, 60, "the runner to be idle for too long")
        served_and_gone(w, there, late[0], "cancelled")
        assert len(there.server.sent(there.making)) == 1
        assert first.runner == 0
