"""One attempt under a real supervisor, started from the real agent.pyz, without an agent."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agent import supervisor, wire, workload
from agent.spool import SpoolReader

PATIENCE_S = 30.0


def until(done: Callable[[], Any], patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not done():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


class Attempt:
    """`log` collects what the supervisor spools, as the agent would, freeing what was taken when told to."""

    def __init__(self, state: Path, order: wire.Order, program: list[str], spool_limit: int) -> None:
        self.key = f"{order.job}/{order.number}"
        self.folder = state / "attempts" / f"{order.job}-{order.number}"
        self.workspace = state / "work" / f"{order.job}-{order.number}"
        for folder in (self.folder, self.workspace):
            folder.mkdir(parents=True)
        bare = dataclasses.asdict(dataclasses.replace(order, secrets={}))
        (self.folder / "order.json").write_text(json.dumps(bare))
        self.order = order
        self.program = program
        self.spool_limit = spool_limit
        self.reader = SpoolReader(str(self.folder / "spool"))
        self.data = bytearray()
        self.spans: list[wire.LogSpan] = []
        self.pid = 0

    def start(self) -> Attempt:
        """Returns at once."""
        words = (str(self.folder), self.order, str(self.workspace), False, self.spool_limit, self.program)
        self.pid = supervisor.start(*words)
        return self

    def collect(self, free: bool = True) -> bytes:
        """All that is spooled so far."""
        while True:
            spans, data = self.reader.read(len(self.data), 2**20)
            if not data:
                return bytes(self.data)
            self.spans += spans
            self.data += data
            if free:
                self.reader.free(len(self.data))

    def until_log(self, what: bytes) -> None:
        until(lambda: what in self.collect())

    def ended(self, patience_s: float = PATIENCE_S) -> dict[str, Any]:
        """Its exit file."""

        def there() -> bool:
            self.collect()
            return (self.folder / "exit.json").exists()

        until(there, patience_s)
        self.collect()
        exit_file: dict[str, Any] = json.loads((self.folder / "exit.json").read_text())
        assert exit_file["log_size"] == len(self.data)
        until(lambda: workload.process(self.pid) is None or not workload.alive(self.pid, self._born()))
        return exit_file

    def control(self, word: str) -> None:
        (self.folder / "control.part").write_text(word)
        (self.folder / "control.part").replace(self.folder / "control")

    def living(self) -> list[int]:
        """Its processes, by the marker, the supervisor excepted."""
        return [pid for pid in workload.marked(self.key) if pid != self.pid]

    def stream(self, number: int) -> bytes:
        return b"".join(self.data[at : at + length] for at, length, stream, _ in self.spans if stream == number)

    def _born(self) -> int:
        return int(json.loads((self.folder / "supervisor.json").read_text())["started"])


class Place:
    """A state folder in which attempts are made."""

    def __init__(self, folder: Path, program: list[str]) -> None:
        self.state = folder / "state"
        self.program = program
        self.job = f"job-{os.getpid()}-{folder.name}"
        self.attempts: list[Attempt] = []

    def attempt(self, run: object, *, spool_limit: int = 256 * 2**20, **more: Any) -> Attempt:
        order = wire.Order(**{"job": self.job, "number": len(self.attempts) + 1, "run": run, "grace_s": 5.0, **more})
        self.attempts.append(Attempt(self.state, order, self.program, spool_limit))
        return self.attempts[-1]

    def run(self, run: object, **more: Any) -> tuple[dict[str, Any], Attempt]:
        """From start to end."""
        made = self.attempt(run, **more).start()
        return made.ended(), made

    def close(self) -> None:
        for one in self.attempts:
            with contextlib.suppress(ProcessLookupError):
                if one.pid:
                    os.kill(one.pid, signal.SIGKILL)
            workload.kill_attempt(one.key)
            with contextlib.suppress(ChildProcessError):
                if one.pid:
                    os.waitpid(one.pid, 0)


@contextlib.contextmanager
def place(folder: Path, program: list[str]) -> Iterator[Place]:
    made = Place(folder, program)
    try:
        yield made
    finally:
        made.close()
