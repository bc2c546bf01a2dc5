"""A GitHub with one repository and the stand-in for its runner program, for what is shown whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from provisioner.app.clock import SystemClock
from tests.fakes import standin_runner
from tests.fakes.github.server import FakeGitHub


@contextmanager
def open_hub() -> Iterator[FakeGitHub]:
    made = FakeGitHub(SystemClock())
    made.start()
    made.add_repository("acme/vision")
    made.publish(standin_runner.packed(), standin_runner.VERSION)
    try:
        yield made
    finally:
        made.stop()
