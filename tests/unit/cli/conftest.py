"""A terminal whose home's path is short enough for a socket, and a controller in that home that a test plays."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.api_server import FakeApi

from .step import TOKEN, github
from .terminal import Terminal, fake


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with tempfile.TemporaryDirectory(prefix="cli-") as folder:
        work = Path(folder) / "work"
        work.mkdir()
        yield Terminal(Path(folder) / "home", work)


@pytest.fixture
def api(terminal: Terminal) -> Iterator[FakeApi]:
    with fake(terminal) as served:
        yield served
        assert not (terminal.home / "controller.log").exists(), "a command started a real controller beside the fake"


@pytest.fixture
def here(terminal: Terminal, api: FakeApi) -> Terminal:
    """No CI, and a token for the forge."""
    terminal.extra |= {"RUNNER_FORGE_TOKEN": TOKEN}
    return terminal


@pytest.fixture
def step(terminal: Terminal, api: FakeApi) -> Terminal:
    """A step of a GitHub workflow that has a controller to talk to."""
    terminal.extra |= github(terminal.folder) | {"RUNNER_FORGE_TOKEN": TOKEN, **server(terminal)}
    return terminal


def server(terminal: Terminal) -> dict[str, str]:
    return {"RUNNER_SERVER": f"unix:{terminal.api_path}"}
