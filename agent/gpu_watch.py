"""What befalls the GPUs while jobs run: the driver's error reports, and heat that slows them down.

Each is noted once an attempt, with all that are on the machine then, and told to the controller with them. After an
error that a GPU does not recover from by itself the machine is unhealthy until it boots again: it takes no other job.
"""

from __future__ import annotations

import threading
from typing import Any

from . import wire, workload
from .attempt import Attempt
from .duties import Turn
from .files import read_json, write_json
from .machine import Machine
from .say import say
from .xid import FATAL, KernelLog, Xid, parsed

_FILE = "gpu.json"
_BUSY_S, _IDLE_S = 2.0, 30.0
_MOST = 50  # arbitrary: events of one attempt; a broken GPU says the same thing a thousand times


class GpuWatch:
    """`run` is the duty; `look` and `hot` may be called by others."""

    def __init__(self, machine: Machine, log: str = "") -> None:
        self._machine = machine
        self._lock = threading.Lock()
        before = read_json(machine.home.file(_FILE)) or {}
        same_boot = before.get("boot_id") == workload.boot_id()
        self._log = KernelLog(log, before.get("position", -1) if same_boot else -1)
        self._fatal = str(before.get("fatal", "")) if same_boot else ""
        if self._fatal:
            machine.unhealthy = self._fatal
        elif not same_boot:
            self._log.new()  # what was there before us is for the gate to judge
            self._save()

    def run(self, turn: Turn) -> None:
        while not turn.over:
            self.look()
            turn.wait(_BUSY_S if any(one.producing for one in self._machine.attempts) else _IDLE_S)

    def look(self) -> None:
        """At what the kernel's log says since the last look."""
        with self._lock:
            found = [xid for xid in map(parsed, self._log.new()) if xid is not None]
            if not found:
                return
            for xid in found:
                self._report(xid)
            self._save()

    def _report(self, xid: Xid) -> None:
        what = FATAL.get(xid.number, "")
        words = ": ".join(filter(None, (f"the driver reported {xid}", xid.text or what)))
        if xid.fatal and not self._fatal:
            self._fatal = self._machine.unhealthy = words
            say("gpu.condemned", why=words)
            self._machine.news()
        said = f"{words}; this machine gets no other job" if xid.fatal else words
        self._note(wire.GpuEvent("xid", xid.gpu, str(xid.number), said))

    def hot(self, rows: list[dict[str, Any]]) -> None:
        """Rows of `probes.gpus`: those with `slowed` are too hot."""
        for index, row in enumerate(rows):
            if slowed := row.get("slowed"):
                words = f"GPU {index} ({row.get('name')}) was slowed down by heat, at {row.get('celsius')} C: {slowed}"
                with self._lock:
                    self._note(wire.GpuEvent("thermal", str(index), str(slowed).partition(" ")[0], words))

    def _note(self, event: wire.GpuEvent) -> None:
        noted = [one for one in self._machine.attempts if _on_the_gpu(one) and one.befell(event, _MOST)]
        if noted:
            say(f"gpu.{event.what}", message=event.message, attempts=[one.key for one in noted])
            self._machine.news()

    def _save(self) -> None:
        value = {"boot_id": workload.boot_id(), "position": self._log.position, "fatal": self._fatal}
        write_json(self._machine.home.file(_FILE), value)


def _on_the_gpu(attempt: Attempt) -> bool:
    return attempt.mark is not None and not attempt.ended
