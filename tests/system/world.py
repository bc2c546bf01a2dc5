"""A whole installation in a temporary home: real controller, real machines, real jobs, and the means to kill any of it.

Time-outs run at a twentieth of the real constants (`RUNNER_POLICY_SCALE`).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCALE = "0.05"


@dataclass
class World:
    """One home. `run` is the command line as a user would type it."""

    home: Path
    scale: str = SCALE
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        keep = {k: os.environ[k] for k in ("PATH", "HOME", "LANG", "USER", "TMPDIR") if k in os.environ}
        return {**keep, "RUNNER_HOME": str(self.home), "RUNNER_POLICY_SCALE": self.scale, **self.extra}

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "provisioner", *words]

    def run(
        self, *words: str, check: bool = True, timeout_s: float = 90, **options: Any
    ) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            self.command(*words), env=self.environment, capture_output=True, timeout=timeout_s, check=False, **options
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"{words} exited {done.returncode}\n{done.stdout!r}\n{done.stderr.decode()}\n{self.log()}"
            )
        return done

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json").stdout)

    def submit(self, *words: str, **options: Any) -> str:
        """A detached job's id."""
        done = self.run("run", "--detach", "--json", *words, **options)
        job: str = json.loads(done.stdout)["id"]
        return job

    def job(self, job_id: str) -> dict[str, Any]:
        shown: dict[str, Any] = self.json("show", job_id)
        return shown

    def wait_done(self, job_id: str, timeout_s: float = 90) -> dict[str, Any]:
        """Asking starts a controller again when none runs."""
        return self.until(lambda: (j := self.job(job_id))["phase"] == "done" and j, timeout_s, f"{job_id} to be done")

    def until(self, found: Callable[[], Any], timeout_s: float, what: str) -> Any:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if value := found():
                return value
            time.sleep(0.05)
        raise AssertionError(f"waited {timeout_s} s for {what}\n{self.log()}")

    def processes(self) -> dict[int, list[str]]:
        """Everything alive that belongs to this home: command lines by pid."""
        mark = os.fsencode(str(self.home))
        found: dict[int, list[str]] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes()
                environment = (entry / "environ").read_bytes()
                if line and (mark in line or mark in environment or self._below(environment)):
                    found[int(entry.name)] = os.fsdecode(line).split("\0")[:-1]
        return found

    def _below(self, environment: bytes) -> bool:
        return any(os.fsencode(name) in environment for name in self.machine_names())

    def machine_names(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return [e.name for e in (self.home / "machines").iterdir() if not e.name.startswith(".")]
        return []

    def pids(self, role: str) -> list[int]:
        """`controller`, `respawn`, `agent`, `supervisor` or `job`."""
        words = {"controller": "serve", "respawn": "respawn", "agent": "run", "supervisor": "supervise"}
        roles: dict[str, list[int]] = {name: [] for name in (*words, "job")}
        for pid, line in self.processes().items():
            ours = [
                name
                for name, word in words.items()
                if word in line and any("agent.pyz" in w or w == "provisioner" or w.startswith("agent-") for w in line)
            ]
            roles[ours[0] if ours else "job"].append(pid)
        return roles[role]

    def holds(self, true: Callable[[], bool], for_s: float) -> None:
        """It is so all that time."""
        deadline = time.monotonic() + for_s
        while time.monotonic() < deadline:
            assert true(), self.log()
            time.sleep(0.1)

    def kill(self, *roles: str, number: int = signal.SIGKILL) -> int:
        """How many were killed."""
        victims = [pid for role in roles for pid in self.pids(role)]
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return len(victims)

    def log(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self.home / "controller.log").read_text()[-4000:]
        return ""

    def nothing_left(self, timeout_s: float = 30) -> None:
        """No machine, no process but the controller's, no row that could cost money."""
        self.until(lambda: not self.json("machines"), timeout_s, "machines to be gone")
        self.until(lambda: not self._strays(), timeout_s, f"processes to end: {self._strays()}")

    def _strays(self) -> dict[int, list[str]]:
        controllers = set(self.pids("controller"))
        return {pid: line for pid, line in self.processes().items() if pid not in controllers and "run" not in line[:4]}

    def close(self) -> None:
        deadline = time.monotonic() + 10
        while self.processes() and time.monotonic() < deadline:
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)


@contextlib.contextmanager
def world(folder: Path, **options: Any) -> Iterator[World]:
    """Everything it started is killed at the end, by id."""
    made = World(folder / "h", **options)
    try:
        yield made
    finally:
        made.close()
