"""The command line as a person uses it: a process of its own, an environment of its own, a home of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fakes.api_server import FakeApi

TOP = Path(__file__).resolve().parents[3]


@dataclass
class Terminal:
    """`folder` is where it stands; `extra` is set in its environment."""

    home: Path
    folder: Path
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def api_path(self) -> Path:
        return self.home / "control.sock"

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return {**kept, "USER": "me", "PYTHONPATH": str(TOP), "RUNNER_HOME": str(self.home), **self.extra}

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "provisioner", *words],
            env=self.environment,
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def begin(
        self, *words: str, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "provisioner", *words],
            env=self.environment,
            cwd=self.folder,
            stdout=stdout,
            stderr=stderr,
        )


def fake(terminal: Terminal, **more: Any) -> FakeApi:
    return FakeApi(terminal.api_path, **more)


@contextlib.contextmanager
def away(api: FakeApi) -> Iterator[None]:
    """Nobody answers there. A command waits for its turn to start a real one, and finds this one back."""
    with (api.path.parent / "start.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        api.stop()
        yield
        api.start()
