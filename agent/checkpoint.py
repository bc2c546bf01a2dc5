"""A job's checkpoints, taken while it runs: a folder that held still while it was read becomes a manifest.

A checkpoint counts when nothing below the folder changed from before it was read to after, which a rename into place
satisfies at once; a job that touches `.complete` in the folder asks for it to be taken now. After the job's own end the
folder is taken once more, unless the job was killed in the middle of what it did.
"""

from __future__ import annotations

import os
import time
from typing import Optional

from .attempt import Attempt
from .config import boottime
from .duties import Turn
from .gather import Gatherer, stamps
from .link import Refused, Unreachable
from .machine import Machine
from .say import say
from .upload import Changed, Local, Stamp, Uploader

HELPER = ".complete"
_LOOK_S = 0.5
_STILL_S = 0.25  # how long a folder must hold still at least
_AGAIN_S = 1.0
_KILLED = 137


class Checkpoints:
    """`run` is the duty."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._due: dict[str, float] = {}
        self._helper: dict[str, Optional[int]] = {}
        self._taken: dict[str, dict[str, Stamp]] = {}
        self._gatherers: dict[str, Gatherer] = {}

    def run(self, turn: Turn) -> None:
        while not turn.over:
            attempts = [attempt for attempt in self._machine.attempts if _wants(attempt)]
            for attempt in attempts:
                self._look(attempt)
            pending = [attempt for attempt in attempts if _wants(attempt)]
            turn.wait(_LOOK_S if pending else 60.0)

    def _look(self, attempt: Attempt) -> None:
        key, now = attempt.key, boottime()
        due = self._due.setdefault(key, now + attempt.order.checkpoint_every_s)
        ended = attempt.exit is not None
        asked = self._asked(attempt)
        if ended and not self._whole(attempt, asked):
            self._finish(attempt)
        elif ended or asked or now >= due:
            self._due[key] = boottime() + self._try(attempt, ended)

    def _try(self, attempt: Attempt, ended: bool) -> float:
        """Seconds until the next look."""
        every_s = attempt.order.checkpoint_every_s
        try:
            taken = self.take(attempt, 0.0 if ended else _STILL_S)
        except (Unreachable, OSError) as error:
            say("checkpoint.not_stored", attempt=attempt.key, error=str(error))
            return _AGAIN_S
        except Refused as error:
            say("checkpoint.refused", attempt=attempt.key, error=str(error))
            taken = True
        if ended and taken:
            self._finish(attempt)
        return every_s if taken else min(_AGAIN_S, every_s)

    def take(self, attempt: Attempt, still_s: float) -> bool:
        """Whether the folder held still (or there was nothing new). Raises: Unreachable, Refused, OSError."""
        order = attempt.order
        before = stamps(attempt.workspace, order.checkpoint_path)
        if not before or before == self._taken.get(attempt.key):
            return True
        time.sleep(still_s)
        gatherer = self._gatherers.setdefault(attempt.key, Gatherer(attempt.workspace))
        found = gatherer.under(order.checkpoint_path)
        files = [file for file in found.files if file.path != HELPER]
        if stamps(attempt.workspace, order.checkpoint_path) != before:
            return False
        try:
            self._store(attempt, files, found.refused)
        except Changed:
            return False
        self._taken[attempt.key] = before
        return True

    def _store(self, attempt: Attempt, files: list[Local], refused: list[str]) -> None:
        if not files:
            return
        uploader = Uploader(self._machine.link, attempt.order.job, attempt.order.number, "checkpoints")
        uploader.send(files)
        sequence = attempt.done.get("checkpoint_sequence", 0) + 1
        attempt.note(checkpoint_sequence=sequence)
        uploader.manifest(sequence, False, files, refused)
        size = sum(file.size for file in files)
        attempt.note(facts={"checkpoint": {"sequence": sequence, "files": len(files), "bytes": size}})
        say("checkpoint.stored", attempt=attempt.key, sequence=sequence, bytes=size)

    def _asked(self, attempt: Attempt) -> bool:
        """Whether the job has touched the helper since the last look."""
        path = os.path.join(attempt.workspace, attempt.order.checkpoint_path, HELPER)
        try:
            touched: Optional[int] = os.lstat(path).st_mtime_ns
        except OSError:
            touched = None
        changed = touched is not None and touched != self._helper.get(attempt.key)
        self._helper[attempt.key] = touched
        return changed

    def _whole(self, attempt: Attempt, asked: bool) -> bool:
        """Whether what an ended job left can be trusted to be a checkpoint, and is of any use."""
        left = attempt.exit or {}
        if left.get("exit_code") == 0 and not left.get("why"):
            return False
        return asked or (left.get("exit_code") != _KILLED and left.get("why") != "supervisor-lost")

    def _finish(self, attempt: Attempt) -> None:
        attempt.note(checkpoint="done")
        for table in (self._due, self._helper, self._taken, self._gatherers):
            table.pop(attempt.key, None)
        self._machine.duties.wake("tend")


def _wants(attempt: Attempt) -> bool:
    started = attempt.mark is not None and attempt.phase in ("running", "syncing")
    return bool(attempt.order.checkpoint_path) and started and "checkpoint" not in attempt.done and not attempt.forget
