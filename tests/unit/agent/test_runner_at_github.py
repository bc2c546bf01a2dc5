"""The real agent and the stand-in for GitHub's program, at the fake GitHub that adapters are tested with."""

from __future__ import annotations

import base64
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import wire
from provisioner.app.clock import SystemClock
from tests.fakes import standin_runner
from tests.fakes.github.server import FakeGitHub

from .forge import program
from .machine import Box, box

REPOSITORY, LABEL, KEY = "acme/vision", "gpu-t4-run-3", ("j1", 1)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Box]:
    with box(tmp_path) as made:
        yield made


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    made = FakeGitHub(SystemClock())
    made.start()
    made.add_repository(REPOSITORY)
    yield made
    made.stop()


def ordered(machine: Box, github: FakeGitHub) -> None:
    """The attempt, its runner registered, as a controller would do both."""
    archive = github.publish(standin_runner.packed(), standin_runner.VERSION)
    record = github.state.register(REPOSITORY, "runner-i1", [LABEL])
    assert record is not None
    settings = {"AgentId": record.id, "AgentName": record.name, "ServerUrl": f"{github.url}/_runner"}
    files = {".runner": settings, ".credentials": {"Scheme": "OAuth", "Data": {"token": record.token}}}
    packed = {name: base64.b64encode(json.dumps(one).encode()).decode() for name, one in files.items()}
    secret = base64.b64encode(json.dumps(packed).encode()).decode()
    about = ("github", record.name, f"{github.url}/{REPOSITORY}", github.url, record.labels, "actions-runner")
    where = f"{github.url}/_downloads/{archive.file}"
    runner = wire.RunnerOrder(*about, archive.version, where, archive.sha256, program=program("github"))
    machine.controller.runners[KEY] = wire.RunnerGiven(record.name, secret)
    machine.controller.order(wire.Order(*KEY, run=[], runner=runner, grace_s=10.0))


def test_a_queued_job_is_served_and_its_runner_is_gone(machine: Box, github: FakeGitHub) -> None:
    run = github.state.add_run(REPOSITORY, [[LABEL], ["another-label"]])
    served, other = run.latest
    served.steps[:] = [{"name": "train", "run": 'test -n "$RUNNER_TEMP" && echo trained > ../../../trained'}]
    ordered(machine, github)
    machine.controller.forgetting = False
    machine.start()
    ended = machine.controller.ended(KEY)
    assert (ended.exit_code, ended.why) == (0, "")
    assert ended.runner is not None
    assert (ended.runner.phase, ended.runner.jobs, ended.runner.job["repository"]) == ("done", 1, REPOSITORY)
    assert (served.conclusion, other.status) == ("success", "queued")
    assert github.state.living(REPOSITORY) == []
    assert (machine.state / "work/j1-1/trained").read_text() == "trained\n"


def test_a_run_that_is_cancelled_at_the_forge_ends_the_job(machine: Box, github: FakeGitHub) -> None:
    run = github.state.add_run(REPOSITORY, [[LABEL]])
    (job,) = run.latest
    job.steps[:] = [{"name": "train", "run": "sleep 600"}]
    ordered(machine, github)
    machine.start()
    c = machine.controller
    c.until(lambda: (s := c.states.get(KEY)) and s.runner and s.runner.phase == "busy")
    github.state.cancel(run)
    assert (c.ended(KEY).exit_code, job.conclusion) == (0, "cancelled")


def test_a_runner_that_was_removed_before_it_was_told_to_stop_is_cancelled(machine: Box, github: FakeGitHub) -> None:
    ordered(machine, github)
    machine.start()
    (record,) = github.state.living(REPOSITORY)
    c = machine.controller
    c.until(lambda: record.session and (s := c.states.get(KEY)) and s.runner)
    c.cancel(KEY, "kindly")
    github.state.remove(record)
    assert c.ended(KEY).why == "cancelled"
    assert github.state.living(REPOSITORY) == []


def test_the_stand_in_is_what_the_order_says() -> None:
    with tarfile.open(fileobj=io.BytesIO(standin_runner.packed("2.999.0"))) as archive:
        listener = archive.extractfile("./bin/Runner.Listener")
        assert listener is not None
        assert b'VERSION = "2.999.0"' in listener.read()
    assert base64.b64encode(standin_runner.packed()) == base64.b64encode(standin_runner.packed())
    assert os.access(standin_runner.__file__, os.R_OK)
