"""What all duties share: the folder, the configuration, the link, the attempts, and when to wake whom."""

from __future__ import annotations

import threading
from typing import Any, Callable, Optional

from . import wire, workload
from .attempt import Attempt, load_all
from .config import Home, boottime
from .duties import Duties
from .files import read_json, write_json
from .handed import Handed
from .join import joined
from .link import Link
from .watch import Signals

_TESTED = "tested.json"
_SCRIPT_FAILED = "script-failed"  # as the controller has it


def gpus_tested(home: Home) -> bool:
    """Whether they were found to be those that were rented, in this boot: what a job did to them later is its own."""
    return (read_json(home.file(_TESTED)) or {}).get("boot_id") == workload.boot_id()


def startup_failed(home: Home) -> str:
    """How the startup script ended on which this machine's owner relies; "" when well, or when there was none."""
    left = read_json(home.file("startup.json")) or {}
    if not left.get("code"):
        return ""
    code, tail = left["code"], "; ".join(map(str, left.get("tail", [])))
    how = f"was killed by signal {-code}" if code < 0 else f"exited {code}"
    return f"the startup script {how}" + (f": {tail}" if tail else "")


class Machine:
    """One agent's whole world. `program` is how this very program is started."""

    def __init__(self, home: Home, config: wire.AgentConfig, program: list[str]) -> None:
        self.home = home
        self.config = config
        self.program = program
        self.link = Link(config.urls, config.ca_pem, joined(home), config.answer_s)
        self.duties = Duties()
        self.signals = Signals(lambda: self.duties.wake("tend", "logs"))
        self.facts: dict[str, Any] = {}
        self.notice = ""
        self.unhealthy = self.unhealthy_code = ""
        self.tested = not config.gpu_count or gpus_tested(home)
        self.look_at_gpus: Callable[[], None] = lambda: None
        if why := startup_failed(home):
            self.unhealthy, self.unhealthy_code, self.tested = why, _SCRIPT_FAILED, True
        self.handed = Handed(home, config.on_end)
        self.heard_at: Optional[float] = None
        self.ending = ""
        self._attempts = {attempt.key: attempt for attempt in load_all(home)}
        self._lock = threading.Lock()

    @property
    def attempts(self) -> list[Attempt]:
        """All that are on the machine now."""
        with self._lock:
            return list(self._attempts.values())

    def attempt(self, key: str) -> Optional[Attempt]:
        return self._attempts.get(key)

    def add(self, attempt: Attempt) -> None:
        with self._lock:
            self._attempts[attempt.key] = attempt

    def drop(self, attempt: Attempt) -> None:
        with self._lock:
            self._attempts.pop(attempt.key, None)

    @property
    def unsent_bytes(self) -> int:
        return sum(attempt.unsent_bytes() for attempt in self.attempts)

    def news(self) -> None:
        """Something that the controller should hear at once."""
        self.duties.wake("session")
        self.link.interrupt()

    def heard(self) -> None:
        self.heard_at = boottime()

    def test_over(self, fault: str) -> None:
        """Of its GPUs, with what was found wrong. From now on the controller hears of this machine."""
        if not fault:
            write_json(self.home.file(_TESTED), {"boot_id": workload.boot_id()})
        self.unhealthy, self.tested = fault, True
        self.duties.wake("session")

    def end(self, why: str) -> None:
        """All duties are over; what called them then ends the machine."""
        self.ending = self.ending or why
        self.duties.end()
        self.link.interrupt()
