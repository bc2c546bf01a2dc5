"""A step without RUNNER_SERVER: what is refused, what is said. Its controller is in system/test_hand_over.py."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest

from provisioner.cli.coming import Interrupted
from provisioner.cli.failures import Unreachable
from provisioner.cli.of_step import StepController
from provisioner.cli.step_output import bound, write_bounds
from tests.fakes.api_server import FakeApi

from .step import TOKEN, github
from .terminal import Terminal


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--jobs", "many"), "--jobs many: each job's runner is made by a controller that is there"),
        (("--detach",), "--detach: nobody would hand the machine over"),
        (("--pool", "gpu"), "--pool: pools are those of a controller that is there"),
        (("--provider", "hosts"), "--provider hosts: its machines cannot be left to themselves"),
    ],
)
def test_what_needs_a_controller_that_stays_is_refused_in_a_step_without_one(
    terminal: Terminal, api: FakeApi, words: tuple[str, ...], said: str
) -> None:
    terminal.extra |= github(terminal.folder) | {"RUNNER_FORGE_TOKEN": TOKEN}
    done = terminal.run("launch", *words)
    assert (done.returncode, done.stderr) == (2, f"runner: {said}; it needs RUNNER_SERVER\n")
    assert api.asked == []


def test_there_is_nothing_to_cancel_where_each_launch_takes_itself_back(terminal: Terminal, api: FakeApi) -> None:
    terminal.extra |= github(terminal.folder)
    done = terminal.run("launch", "--gpu", "T4", "--cancel")
    (line,) = done.stderr.splitlines()
    assert (done.returncode, api.asked) == (0, [])
    assert line.startswith("runner: nothing to cancel: without RUNNER_SERVER a launch that is cut short is taken back")


def test_a_step_whose_own_controller_cannot_start_says_why_and_leaves_no_home(
    terminal: Terminal, api: FakeApi, tmp_path: Path
) -> None:
    terminal.extra |= github(terminal.folder) | {"RUNNER_FORGE_TOKEN": TOKEN, "TMPDIR": str(tmp_path)}
    (terminal.home / "settings.yaml").write_text("colour: red\n")
    done = terminal.run("launch")
    assert done.returncode == 4
    assert done.stderr.startswith("runner: the embedded controller did not start; ")
    assert "settings.yaml: colour: Extra inputs are not permitted" in done.stderr
    assert list(tmp_path.iterdir()) == []


class Impatient:
    """Is interrupted as soon as there is a controller to wait for."""

    def __init__(self, own: StepController) -> None:
        self._own = own

    def get(self, path: str) -> None:
        if self._own._process is not None:
            raise Interrupted
        raise Unreachable("nobody")

    def close(self) -> None: ...


def test_an_interrupted_start_leaves_the_controller_its_home_until_it_has_ended(tmp_path: Path) -> None:
    own = StepController(tmp_path / "lasting")
    own.client = Impatient(own)  # type: ignore[assignment]
    with pytest.raises(Interrupted):
        own.start()
    process, home = own._process, own._home
    assert process is not None
    assert (process.poll(), home.is_dir()) == (None, True)
    own.leave()
    with contextlib.suppress(ChildProcessError):  # it is not waited for where it is slow to end
        os.waitpid(process.pid, 0)
    assert not home.exists()


def test_a_controller_is_told_at_once_that_its_machines_are_alone(tmp_path: Path) -> None:
    """Before the step says so, which may be killed at any time."""
    own = StepController(tmp_path / "lasting")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as told:
        own._process = told
        own.release()
        assert told.stdout is not None
        assert told.stdout.read(7) == b"release"
        assert told.poll() is None
        own.leave()
    assert told.returncode == 0
    assert not own._home.exists()


ALONE = {
    "state": "alone",
    "job_id": "ci-1-1",
    "runner": "runner-i-1",
    "offer": "aws use1-az1 g4dn.xlarge spot $1.05/h",
    "usd_per_hour": "1.05",
    "lifetime_s": 7200.0,
    "at_most_usd": "2.10",
    "ends_at": "2026-11-21T23:15:09.123456Z",
}


def test_the_upper_bound_is_said_and_an_unknown_price_is_said_to_be() -> None:
    until = "it ends by itself by 2026-11-21 23:15:09 UTC"
    assert bound(ALONE) == f"at most $2.10 ($1.05/h for 2 h); {until}"
    unknown = ALONE | {"usd_per_hour": None, "at_most_usd": None}
    assert bound(unknown) == (
        "its price is unknown; it ends by itself within 2 h of its launch, by 2026-11-21 23:15:09 UTC"
    )


def test_the_summary_has_a_row_a_runner_after_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    write_bounds(path, [ALONE, ALONE | {"runner": "runner-i-2"}])
    before, empty, *table = path.read_text().splitlines()
    assert (before, empty) == ("before", "")
    assert table[:2] == ["| runner | machine | upper bound |", "|---|---|---|"]
    assert [row.split(" | ")[0] for row in table[2:]] == ["| `runner-i-1`", "| `runner-i-2`"]
