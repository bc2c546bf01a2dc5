"""A GitHub with one repository and the stand-in for its runner program, for what is shown whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from provisioner.app.clock import SystemClock
from tests.fakes import netns, standin_runner
from tests.fakes.booting import BootingCloud
from tests.fakes.github.description import mismatches
from tests.fakes.github.server import FakeGitHub


@contextmanager
def open_hub() -> Iterator[FakeGitHub]:
    """What passed is held against GitHub's own description when it is shut, however many processes said it."""
    made = FakeGitHub(SystemClock())
    made.start()
    made.add_repository("acme/vision")
    made.publish(standin_runner.packed(), standin_runner.VERSION)
    try:
        yield made
    finally:
        made.stop()
    assert mismatches(made.exchanges) == []


def reach_from_machines(hub: FakeGitHub, cloud: BootingCloud) -> None:
    """It is on this computer's loopback, and then by the same address on that of each machine."""
    cloud.prepare = lambda host: hub.start_at(netns.listening(host, hub.port))
