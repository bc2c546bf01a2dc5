"""A machine of one's own: the real agent.pyz in real processes, beside a fake controller."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent import wire
from provisioner.bootstrap.bundle import packed
from tests.fakes.controller import Controller, serving

MARK = "RUNNER_INSTANCE"


class Box:
    """The processes of one agent. `name` marks them in their environment."""

    def __init__(self, folder: Path, controller: Controller, urls: list[str], **changes: Any) -> None:
        self.state = folder / "state"
        self.controller = controller
        self.name = f"box-{os.getpid()}-{folder.name}"
        self.pyz = folder / "agent.pyz"
        self.pyz.write_bytes(packed())
        self.state.mkdir(mode=0o700)
        settings: dict[str, Any] = {"poll_s": 2.0, "on_end": "exit", **changes}
        config = wire.AgentConfig(instance="i1", name=self.name, urls=urls, join_token=controller.token, **settings)
        (self.state / "config.json").write_text(json.dumps(dataclasses.asdict(config)))
        self.path = os.environ["PATH"]
        self.more: dict[str, str] = {}
        self.python = sys.executable
        self.console = folder / "console.log"
        self.children: list[subprocess.Popen[bytes]] = []

    def start(self, command: str = "run") -> subprocess.Popen[bytes]:
        environment = {"PATH": self.path, MARK: self.name, "HOME": str(self.state.parent), **self.more}
        with self.console.open("ab") as console:
            child = subprocess.Popen(
                [self.python, "-I", str(self.pyz), command, str(self.state)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        self.children.append(child)
        return child

    def said(self, what: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.console.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["what"] == what]

    def pids(self) -> list[int]:
        """Everything alive that this machine started."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != os.getpid():
                with contextlib.suppress(OSError):
                    environment = Path(f"/proc/{entry}/environ").read_bytes()
                    if f"{MARK}={self.name}".encode() in environment.split(b"\0"):
                        found.append(int(entry))
        return found

    def close(self) -> None:
        deadline = time.monotonic() + 10
        while (left := self.pids()) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for child in self.children:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(0.2)


@contextlib.contextmanager
def box(folder: Path, **changes: Any) -> Iterator[Box]:
    """A machine with its controller, not yet started."""
    controller = Controller()
    with serving(controller, folder / "c.sock") as urls:
        made = Box(folder, controller, urls[:1], **changes)
        try:
            yield made
        finally:
            made.close()


def packed_folder(files: dict[str, bytes]) -> bytes:
    """A tar as the command line makes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            entry.mode = 0o755
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
