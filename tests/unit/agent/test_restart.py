"""What an agent that comes back, or one that starts a supervisor, takes from the disk before it does anything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import wire
from agent.attempt import Attempt
from agent.config import Home
from agent.duties import Duties
from agent.files import write_json
from agent.machine import Machine
from agent.prepare import Prepare

CONFIG = wire.AgentConfig(instance="i1", name="i1", urls=["http://127.0.0.1:9"], join_token="t", on_end="exit")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(str(tmp_path))
    made.make()
    return made


def test_the_session_is_there_before_any_duty_begins(home: Home) -> None:
    """A log that is offered without a session is refused as anybody's would be."""
    assert Machine(home, CONFIG, []).link.session == ""
    write_json(home.file("session.json"), {"session": "s-1"})
    assert Machine(home, CONFIG, []).link.session == "s-1"


def test_a_supervisor_that_is_killed_as_it_starts_is_lost(home: Home) -> None:
    """Nothing is said of the job's inputs: it is nobody's fault, and tried again."""
    machine = Machine(home, CONFIG, ["/bin/sh", "-c", "kill -9 $$"])
    attempt = Attempt(home, wire.Order("j1", 1, run="true"))
    attempt.create()
    machine.add(attempt)
    turn = Duties().add("prepare", lambda turn: None)
    Prepare(machine).once(turn)
    assert attempt.exit is not None
    assert attempt.exit["why"] == "supervisor-lost", attempt.exit
    assert "signal 9" in attempt.exit["detail"]
