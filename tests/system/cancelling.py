"""One step of a workflow that launches a runner and is cut short: begun, held still at a certain point, and signalled
as a forge does it."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.system.world import World

AS_GITHUB = ((signal.SIGINT, 7.5), (signal.SIGTERM, 2.5))  # then the tree is killed. Source: actions/runner, 2026
# What a runner's job has come to, as the database says; `?` is the job's label.
STEPS = {
    "it is stored": "select 1 from jobs where name = ?",
    "its machine is planned": "select 1 from instances i join jobs j on i.planned_for = j.id where j.name = ?",
    **{
        f"its machine is {words[0]}": "select 1 from instances i join jobs j on i.planned_for = j.id where j.name = ?"
        f" and i.phase in {words}"
        for words in (("launching", "booting", "ready"), ("booting", "ready"), ("ready", ""))
    },
    "it is registered": "select 1 from runners r join jobs j on r.job_id = j.id where j.name = ? and r.forge_id <> ''",
    "it is online": "select 1 from runners r join jobs j on r.job_id = j.id where j.name = ? and r.online_at > 0",
}
_runs = itertools.count(1001)


@dataclass
class Step:
    """One step of a workflow, in a session of its own. `shell`: what runs it is a shell that waits for it."""

    w: World
    idle: str
    shell: bool
    more: tuple[str, ...] = ()
    run: str = field(default_factory=lambda: str(next(_runs)))
    entry: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        return self.w.environment | {"GITHUB_RUN_ID": self.run}

    @property
    def words(self) -> list[str]:
        return self.w.command("launch", "--idle-timeout", self.idle, *self.more)

    def begin(self) -> subprocess.Popen[bytes]:
        script = '"$@"; exit $?' if self.shell else 'exec "$@"'
        words = ["sh", "-c", script, "sh", *self.words]
        self.entry = subprocess.Popen(
            words, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        return self.entry

    def child(self) -> int:
        """The command itself, whoever runs it."""
        assert self.entry is not None
        if not self.shell:
            return self.entry.pid
        children = Path(f"/proc/{self.entry.pid}/task/{self.entry.pid}/children")
        return int(self.w.until(lambda: children.read_text().split(), 10, "the shell to begin it")[0])

    def cancelled(self, first: int = 0, scale: float = 1.0, told: Callable[[], None] = lambda: None) -> None:
        """As GitHub does it: the entry process is signalled, and in the end the tree is killed. `first`: where in
        AS_GITHUB to begin; `told` after each signal."""
        assert self.entry is not None
        for number, wait_s in AS_GITHUB[first:]:
            self.entry.send_signal(number)
            told()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.entry.wait(wait_s * scale)
                break
        self.killed()

    def shell_killed(self, let_go: Callable[[], None]) -> bytes:
        """Nothing but the shell: the command goes on to its end, with nobody to wait for it. All that it said."""
        assert self.entry is not None
        assert self.entry.stdout is not None
        child = self.child()
        assert child != self.entry.pid
        self.entry.kill()
        self.entry.wait(10)
        let_go()
        self.w.until(lambda: child not in self.w.processes(), 60, "the command to end")
        return self.entry.stdout.read()

    def killed(self) -> None:
        assert self.entry is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.entry.pid, signal.SIGKILL)
        self.entry.wait(10)

    def posted(self) -> None:
        """What the action does after a job whose launch was cut off."""
        subprocess.run([*self.words, "--cancel"], env=self.environment, check=True, capture_output=True, timeout=60)


@contextlib.contextmanager
def still(w: World) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """What holds the controller that there is then, and what lets it go on; that is done in the end, too."""
    held: list[int] = []

    def hold() -> None:
        held.extend(w.pids("controller"))
        send(signal.SIGSTOP)

    def send(number: int) -> None:
        for pid in held:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    try:
        yield hold, lambda: send(signal.SIGCONT)
    finally:
        send(signal.SIGCONT)


def until(database: Callable[[], Path | None], at: str, run: str, log: Callable[[], str]) -> None:
    """That the one job of this run has come so far. Looked at closely: some steps are over within milliseconds."""
    deadline = time.monotonic() + 60
    while (path := database()) is None:
        assert time.monotonic() < deadline, log()
        time.sleep(0.001)
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as reading:

        def one(query: str, value: str) -> Any:
            while (row := _row(reading, query, value)) is None:
                assert time.monotonic() < deadline, (query, value, log())
                time.sleep(0.001)
            return row

        (label,) = one("select name from jobs where name like ?", f"run-{run}-%")
        one(STEPS[at], label)


def _row(reading: sqlite3.Connection, query: str, value: str) -> Any:
    """Nothing where there is no table yet."""
    with contextlib.suppress(sqlite3.OperationalError):
        return reading.execute(query, (value,)).fetchone()
    return None
