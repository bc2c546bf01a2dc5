"""Real supervisors over real processes: how each attempt ends, and that nothing outlives it."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import supervisor, wire, workload
from agent.spool import SpoolReader

TOP = Path(__file__).parents[3]
SHIM = f"import sys; sys.path.insert(0, {str(TOP)!r}); from agent.__main__ import main; sys.exit(main())"
AGENT = [sys.executable, "-I", "-c", SHIM]


class Trial:
    """One attempt in a folder of its own."""

    def __init__(self, folder: Path, run: Any, **order: Any) -> None:
        self.folder = folder / "attempts" / "j-1"
        self.workspace = folder / "work"
        self.folder.mkdir(parents=True)
        self.workspace.mkdir()
        self.order = wire.Order("j-1", 1, run, **{"grace_s": 0.5, **order})
        kept = dataclasses.asdict(self.order) | {"secrets": {}}
        (self.folder / "order.json").write_text(json.dumps(kept))
        self.pid = supervisor.start(str(self.folder), self.order, str(self.workspace), False, 64 * 2**20, AGENT)

    def until(self, found: Callable[[], Any], seconds: float = 20) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if value := found():
                return value
            time.sleep(0.01)
        raise AssertionError((self.folder / "supervisor.log").read_text())

    def end(self) -> dict[str, Any]:
        path = self.folder / "exit.json"
        self.until(path.exists)
        ended: dict[str, Any] = json.loads(path.read_text())
        return ended

    def log(self, stream: int | None = None) -> bytes:
        reader = SpoolReader(str(self.folder / "spool"))
        spans, data = reader.read(0, 2**24)
        return b"".join(data[o : o + n] for o, n, s, _ in spans if stream in (None, s))

    def control(self, word: str) -> None:
        (self.folder / "control").write_text(word)


def code_and_why(trial: Trial) -> tuple[int, str]:
    ended = trial.end()
    return ended["exit_code"], ended["why"]


@pytest.mark.parametrize(
    ("run", "code", "log"),
    [
        (["echo", "a b"], 0, b"a b\n"),
        ("exit 7", 7, b""),
        ("kill -9 $$", 137, b""),
        (["no-such-command"], 127, b"runner: command not found: no-such-command\n"),
        (["/etc/passwd"], 126, b"runner: cannot execute /etc/passwd: Permission denied\n"),
    ],
)
def test_exit_codes_are_the_shells(run: Any, code: int, log: bytes, tmp_path: Path) -> None:
    trial = Trial(tmp_path, run)
    assert code_and_why(trial) == (code, "")
    assert trial.log() == log


def test_streams_are_told_apart(tmp_path: Path) -> None:
    trial = Trial(tmp_path, "echo out; echo err >&2")
    trial.end()
    assert (trial.log(1), trial.log(2)) == (b"out\n", b"err\n")


def test_secrets_are_given_and_masked_and_on_no_disk(tmp_path: Path) -> None:
    trial = Trial(tmp_path, "echo $S; echo ${#S}", secrets={"S": "correct-horse"})
    trial.end()
    assert trial.log() == b"***\n13\n"
    held = subprocess.run(["grep", "-ra", "correct-horse", str(tmp_path)], capture_output=True, check=False)
    assert held.stdout == b""


def test_the_job_is_told_who_it_is(tmp_path: Path) -> None:
    trial = Trial(tmp_path, "echo $RUNNER_JOB_ID $RUNNER_ATTEMPT $RUNNER_RESUMED; pwd", env={"A": "1"})
    trial.end()
    assert trial.log().decode().split("\n")[:2] == ["j-1 1 0", str(trial.workspace)]


def test_a_time_out_is_kind_first(tmp_path: Path) -> None:
    run = "trap 'echo asked; exit 3' TERM; while :; do sleep 0.05; done"
    trial = Trial(tmp_path, run, timeout_s=0.3, grace_s=20)
    assert code_and_why(trial) == (124, "timeout")
    assert trial.log(1) == b"asked\n"


def test_what_ignores_the_kind_way_is_killed(tmp_path: Path) -> None:
    trial = Trial(tmp_path, "trap '' TERM; echo on; while :; do sleep 0.05; done")
    trial.until(trial.log)
    trial.control("kindly")
    assert code_and_why(trial) == (130, "cancelled")


def test_now_means_now(tmp_path: Path) -> None:
    trial = Trial(tmp_path, "trap '' TERM; echo on; while :; do sleep 0.05; done", grace_s=600)
    trial.until(trial.log)
    trial.control("kindly")
    trial.control("now")
    assert code_and_why(trial) == (130, "cancelled")


def test_a_log_over_its_limit_fails_loudly(tmp_path: Path) -> None:
    trial = Trial(tmp_path, "yes", log_limit_bytes=100_000)
    ended = trial.end()
    assert (ended["why"], ended["log_size"]) == ("log-limit", 100_000)
    assert len(trial.log()) == 100_000


def test_a_terminal_is_one(tmp_path: Path) -> None:
    trial = Trial(tmp_path, "test -t 0 && test -t 1 && echo yes", tty=True)
    trial.end()
    assert trial.log() == b"yes\r\n"


def test_nothing_outlives_a_job_however_it_forks(tmp_path: Path) -> None:
    run = "for i in 1 2 3; do (setsid nohup sh -c 'env -i sleep 986 & env -i setsid sleep 986 &' &) ; done; echo on"
    trial = Trial(tmp_path, run)
    assert code_and_why(trial) == (0, "")
    assert subprocess.run(["pgrep", "-f", "^sleep 986$"], capture_output=True, check=False).stdout == b""


def test_what_a_dead_supervisor_leaves_is_found_by_its_mark(tmp_path: Path) -> None:
    trial = Trial(tmp_path, "setsid sleep 985 & echo on; sleep 985")
    trial.until(trial.log)
    os.kill(trial.pid, signal.SIGKILL)
    assert workload.kill_attempt("j-1/1")
    assert workload.marked("j-1/1") == []
    assert not (trial.folder / "exit.json").exists()


def test_a_failed_setup_runs_nothing(tmp_path: Path) -> None:
    trial = Trial(tmp_path, "echo never", setup="echo trying; exit 4", shell_env={"VIRTUAL_ENV": "/nowhere"})
    ended = trial.end()
    assert (ended["exit_code"], ended["why"], ended["detail"]) == (4, "setup-failed", "setup exited 4")
    assert trial.log() == b"trying\n"


def test_every_byte_comes_through(tmp_path: Path) -> None:
    payload = bytes(range(256)) * 100 + b"\r50%\r" + b"L" * 2_000_000
    (tmp_path / "payload").write_bytes(payload)
    trial = Trial(tmp_path, ["cat", str(tmp_path / "payload")], secrets={"S": "not-in-there"})
    trial.end()
    assert trial.log() == payload
