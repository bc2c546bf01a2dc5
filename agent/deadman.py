"""The machine's own limits: it ends itself when nobody came, nobody needs it, it is too old, or nobody answers.

All limits are durations on a clock that counts time asleep, and what has passed is carried over a reboot with the
boot id; no wall clock is read, neither ours nor the controller's. The controller's limits are shorter, so these act
only when it does not. What would be lost is waited for, and if it is lost all the same, said on the console. A machine
that was handed over goes by what `handed` says instead: nobody is waited for there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from . import wire, workload
from .config import boottime
from .duties import Turn
from .files import read_json, write_json
from .handed import Verdict
from .machine import Machine
from .say import say

_FILE = "deadman.json"
_SAVE_S = 10.0
_SLOWEST_S, _FASTEST_S = 1.0, 0.05


@dataclass(frozen=True)
class Passed:
    """Seconds since the first start, the last word heard, the last attempt, and since jobs were told to stop."""

    lived: float
    silent: float
    idle: float
    stopping: float = 0.0
    joined: bool = True


def judge(limits: wire.AgentConfig, passed: Passed, running: int, kept: int) -> Verdict:
    """What is due. Pure. `running` attempts have not ended; `kept` are all that the controller has not forgotten."""
    if not passed.joined and passed.lived > limits.boot_deadline_s:
        return Verdict(end=f"never joined within {limits.boot_deadline_s:g} s")
    old = passed.lived > limits.lifetime_s
    if running:
        orphaned = passed.silent > limits.orphan_s
        if not old and not orphaned:
            return Verdict()
        why = f"older than {limits.lifetime_s:g} s" if old else f"controller silent for more than {limits.orphan_s:g} s"
        return Verdict(stop=why, end=why if passed.stopping > limits.hold_unsent_s else "")
    silence_s = min(limits.silence_s, limits.orphan_s) if passed.stopping else limits.silence_s
    if passed.joined and passed.silent > silence_s:
        return Verdict(end=f"controller silent for more than {silence_s:g} s")
    if kept:
        return Verdict()
    if old:
        return Verdict(end=f"older than {limits.lifetime_s:g} s")
    if passed.joined and passed.idle > limits.idle_s:
        return Verdict(end=f"idle for more than {limits.idle_s:g} s")
    return Verdict()


class Deadman:
    """`run` is the duty."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        now = boottime()
        before = read_json(machine.home.file(_FILE)) or {}
        same_boot = before.get("boot_id") == workload.boot_id()
        # Between the last save and a reboot some seconds go uncounted: at most _SAVE_S a boot.
        away = now - before.get("at", now) if same_boot else 0.0
        self._born = now - before.get("lived", 0.0) - away
        self._heard = now - before.get("silent", 0.0) - away
        self._busy = now - before.get("idle", 0.0) - away
        self._stopping: Optional[float] = None
        self._saved = 0.0

    def run(self, turn: Turn) -> None:
        while not turn.over:
            self.once()
            turn.wait(max(_FASTEST_S, min(_SLOWEST_S, self._shortest_s() / 20)))

    def _shortest_s(self) -> float:
        limits, over = self._machine.config, self._machine.handed.over
        if over is not None:
            return min(over.order.idle_s, over.order.lifetime_s, over.order.job_s, over.order.grace_s)
        return min(limits.boot_deadline_s, limits.idle_s, limits.lifetime_s, limits.silence_s, limits.orphan_s)

    def once(self) -> None:
        machine, now = self._machine, boottime()
        attempts = machine.attempts
        if machine.heard_at is not None:
            self._heard = max(self._heard, machine.heard_at)
        if attempts:
            self._busy = now
        passed = self._passed(now)
        self._save(now, passed)
        running = [one for one in attempts if not one.ended]
        if machine.handed.over is None:
            verdict = judge(machine.config, passed, len(running), len(attempts))
        else:
            verdict = machine.handed.verdict(machine.attempt(machine.handed.key), passed.lived)
        if verdict.stop and self._stopping is None:
            self._stopping = now
            say("jobs.stopping", why=verdict.stop)
        elif not verdict.stop and passed.silent < 1.0:
            self._stopping = None
        for one in running if verdict.stop else []:
            if one.producing:
                one.control(verdict.how)
        if verdict.end:
            self._console(verdict.end)
            machine.end(verdict.end)

    def _passed(self, now: float) -> Passed:
        stopping = now - self._stopping if self._stopping is not None else 0.0
        joined = bool(self._machine.link.session)
        return Passed(now - self._born, now - self._heard, now - self._busy, stopping, joined)

    def _save(self, now: float, passed: Passed) -> None:
        if self._saved and now - self._saved < _SAVE_S:
            return
        self._saved = now
        value = {"boot_id": workload.boot_id(), "at": now, "lived": passed.lived}
        write_json(self._machine.home.file(_FILE), {**value, "silent": passed.silent, "idle": passed.idle})

    def _console(self, why: str) -> None:
        alone = self._machine.handed.over is not None
        for one in () if alone else self._machine.attempts:  # all that the controller has not told us to forget
            unsent, unsynced = max(0, one.spool.size() - one.log_safe), not one.said().results_complete
            say("data.unconfirmed", attempt=one.key, phase=one.phase, log_bytes=unsent, results=unsynced)
        say("machine.ending", why=why)
