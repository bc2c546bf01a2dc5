"""Taking each attempt its next step: cancel it, notice its end or the loss of its supervisor, end it, forget it.

It is `ended` only when what the job left is safe elsewhere, or when that was waited for as long as the configuration
says; the facts then say what is missing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import Optional

from . import workload
from .attempt import Attempt
from .config import boottime
from .duties import Turn
from .machine import Machine
from .say import say
from .watch import Watch

_BUSY_S = 0.03
_QUIET_S = 1.0  # a supervisor that an earlier agent started dies without a signal to this one
_FORGET_PATIENCE_S = 15.0  # arbitrary: for a supervisor that was told to stop at once


class Tend:
    """`run` is the duty; `once` one pass."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._forgetting: dict[str, float] = {}
        self._leaving: set[int] = set()
        self._watch = Watch(machine.signals, once=False)

    def run(self, turn: Turn) -> None:
        while not turn.over:
            self.once()
            self._leaving = {pid for pid in self._leaving if not _gone(pid)}
            turn.wait(self._pause())

    def _pause(self) -> float:
        working = [one for one in self._machine.attempts if not one.ended or one.forget]
        if not working and not self._leaving:
            return 60.0
        quiet = not self._leaving and all(_quiet(one) for one in working)
        quiet = quiet and self._watch.settled([one.folder for one in working])
        return _QUIET_S if quiet else _BUSY_S

    def once(self) -> None:
        for attempt in self._machine.attempts:
            before = attempt.shown
            self._step(attempt)
            if attempt.shown != before or attempt.key not in {one.key for one in self._machine.attempts}:
                self._machine.news()
                self._machine.duties.wake("logs", "results", "checkpoints", "probes")

    def _step(self, attempt: Attempt) -> None:
        if not attempt.ended:
            attempt.look()
        if attempt.forget:
            self._forget(attempt)
        elif attempt.ended or (attempt.mark is None and attempt.exit is None):
            return
        elif attempt.exit is None:
            self._look_after(attempt)
        elif (missing := self.missing(attempt)) is None:
            self._end(attempt, "")
        elif boottime() - (attempt.exited_at or 0.0) > self._machine.config.hold_unsent_s:
            say("attempt.given_up", attempt=attempt.key, missing=missing)
            self._end(attempt, missing)

    def _look_after(self, attempt: Attempt) -> None:
        if attempt.cancel:
            # Of a machine that is about to go the forge is better told now than left to find out.
            attempt.control("firmly" if attempt.cancel == "kindly" and self._machine.notice else attempt.cancel)
        if attempt.living:
            return
        attempt.look()
        if attempt.exit is None:
            say("supervisor.lost", attempt=attempt.key)
            workload.kill_attempt(attempt.key)
            attempt.fail("supervisor-lost", "its supervisor died without leaving an exit file")
        self._reap(attempt)

    def _forget(self, attempt: Attempt) -> None:
        """Stop what runs, then delete it all."""
        since = self._forgetting.setdefault(attempt.key, boottime())
        if attempt.producing and attempt.living:
            attempt.control("now")
            if boottime() - since < _FORGET_PATIENCE_S:
                return
            workload.signal_all([attempt.mark["pid"]] if attempt.mark else [], 9)
        if attempt.preparing:
            return
        workload.kill_attempt(attempt.key)
        self._reap(attempt)
        attempt.delete()
        self._machine.drop(attempt)
        self._forgetting.pop(attempt.key, None)
        say("attempt.forgotten", attempt=attempt.key)
        if not self._machine.attempts:
            _give_memory_back()

    def missing(self, attempt: Attempt) -> Optional[str]:
        """What still has to be made safe before it can end; None when nothing."""
        size = (attempt.exit or {}).get("log_size", 0)
        if attempt.log_safe < size and not attempt.log_lost:
            return f"log safe up to {attempt.log_safe} of {size} bytes: {_log_trouble(attempt)}"
        if attempt.mark is None:
            return None
        if attempt.order.outputs and "results" not in attempt.done:
            return "results"
        if attempt.order.checkpoint_path and "checkpoint" not in attempt.done:
            return "checkpoint"
        return None

    def _end(self, attempt: Attempt, missing: str) -> None:
        self._machine.look_at_gpus()  # what ended it may be there, and is told with it
        left = attempt.exit or {}
        size = left.get("log_size", 0)
        log_complete = attempt.log_safe >= size
        nothing_to_send = not attempt.order.outputs or attempt.mark is None
        results = "complete" if nothing_to_send else attempt.done.get("results", missing)
        why, detail = left.get("why", ""), left.get("detail", "")
        unmatched = [line for line in attempt.done["facts"].get("refused", []) if line.startswith("no file matched")]
        if not why and results != "complete":
            why, detail = "outputs-failed", f"results were not stored: {results}"
        elif not why and unmatched and left.get("exit_code") == 0:
            why, detail = "outputs-failed", "; ".join(unmatched)
        elif not why and not log_complete:
            why, detail = "log-lost", f"log safe up to {attempt.log_safe} of {size} bytes: {_log_trouble(attempt)}"
        timings = {**attempt.done["facts"].get("timings", {}), **left.get("timings", {})}
        attempt.note(facts={"machine": self._machine.facts, "timings": timings})
        attempt.note(
            ended={
                "job": attempt.order.job,
                "number": attempt.order.number,
                "phase": "ended",
                "exit_code": left.get("exit_code"),
                "why": why,
                "detail": detail,
                "log_size": size,
                "log_complete": log_complete,
                "results_complete": results == "complete",
                "facts": attempt.done["facts"],
            }
        )
        self._reap(attempt)
        say("attempt.ended", attempt=attempt.key, exit_code=left.get("exit_code"), why=why)

    def _reap(self, attempt: Attempt) -> None:
        """A supervisor that was started by this very agent is its child."""
        if attempt.mark is not None:
            self._leaving.add(attempt.mark["pid"])


def _log_trouble(attempt: Attempt) -> str:
    return attempt.log_lost or attempt.log_trouble or "the controller has not answered"


def _quiet(attempt: Attempt) -> bool:
    """Its next step is its supervisor's, or comes with what the controller says."""
    waits = not attempt.cancel or (attempt.cancel == "kindly" and attempt.order.runner is not None)
    return attempt.producing and waits and not attempt.forget


def _give_memory_back() -> None:
    """An idle agent is small again after a job whose log was not. Other libraries than glibc have no such call."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _gone(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    except OSError:  # an earlier agent's child
        return True
