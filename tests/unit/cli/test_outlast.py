"""A controller that is killed again while the command puts up with its first end: at each of the calls that may be cut
off, and no longer than is waited for."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from provisioner.cli.coming import Coming
from provisioner.cli.failures import Unreachable
from provisioner.cli.of_step import StepController
from provisioner.cli.outlast import outlast

from .test_of_step import ALONE


class Mortal:
    """A client of controllers each of which is killed at one call: at the nth of all that are made, for each n."""

    def __init__(self, *killed_at: int) -> None:
        self.calls: list[str] = []
        self._killed_at = killed_at

    def call(self, what: str) -> None:
        self.calls.append(what)
        if len(self.calls) - 1 in self._killed_at:
            raise Unreachable(f"killed at {what}")

    def get(self, path: str, **query: object) -> Any:
        self.call(path)
        online = {"name": "runner-i-1", "site": "https://github.com/acme/vision", "online_at": "now"}
        return {"/jobs/ci-1-1": {"phase": "running", "runners": [online]}, "/events": []}.get(path, {})

    def post(self, path: str, body: object = None) -> Any:
        self.call(path)
        return ALONE

    def rights(self, client: object) -> None:
        self.call("rights")

    def close(self) -> None: ...


ASK, STATUS, RIGHTS = "/jobs/ci-1-1/hand-over", "/status", "rights"


def test_a_hand_over_outlives_the_next_controller_too(tmp_path: Path) -> None:
    mortal, own = Mortal(0, 2, 5), StepController(tmp_path / "lasting")
    own.client = mortal  # type: ignore[assignment]
    assert own.hand_over(["ci-1-1"], 0.0, mortal.rights) == [ALONE]
    assert mortal.calls == [ASK, STATUS, RIGHTS, STATUS, RIGHTS, ASK, STATUS, RIGHTS, ASK]
    own.leave()


def test_so_does_waiting_for_runners() -> None:
    mortal = Mortal(0, 1, 3)
    coming = Coming(mortal, mortal.rights, lambda client: mortal.call("again"))  # type: ignore[arg-type]
    coming.wait(["ci-1-1"], 30)
    job = "/jobs/ci-1-1"
    assert mortal.calls == [job, "again", "again", RIGHTS, "again", RIGHTS, job, "/events", f"{job}/awaited"]


def test_who_is_killed_every_time_is_asked_until_the_deadline() -> None:
    began_s = time.monotonic()
    mortal = Mortal(*range(1000))
    with pytest.raises(Unreachable, match="killed at ask"):
        outlast(lambda: mortal.call("ask"), lambda: None, lambda: None, began_s + 0.5)
    assert 0.5 <= time.monotonic() - began_s < 5
    assert len(mortal.calls) > 1


def test_nobody_is_waited_for_longer_than_one_that_comes_back() -> None:
    left = deque([True, True])

    def again() -> None:
        if not left:
            raise Unreachable("it did not start; settings.yaml is wrong")
        left.pop()

    def ask() -> None:
        raise Unreachable("killed")

    began_s = time.monotonic()
    with pytest.raises(Unreachable, match="is wrong"):
        outlast(ask, again, lambda: None, began_s + 600, away_s=0.3)
    assert not left
    assert time.monotonic() - began_s < 60
