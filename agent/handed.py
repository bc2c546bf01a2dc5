"""A machine that no controller looks after any more: what it was told to go by, and what is due by that.

It is on the disk before it is acknowledged, and read from there at every start: a machine is handed over for good.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

from . import wire, workload
from .config import HANDED_OVER, Home, boottime, flush_folder
from .files import read_json, write_json

if TYPE_CHECKING:
    from .attempt import Attempt

_FILE = "handed-over.json"


@dataclass(frozen=True)
class Verdict:
    """`stop` the jobs, by the word in `how`, or `end` the machine, and why."""

    stop: str = ""
    end: str = ""
    how: str = "firmly"


def due(order: wire.HandOver, lived_s: float, phase: str, for_s: float) -> Verdict:
    """Pure. `phase` is the runner's, "" once it has ended, and `for_s` how long it has been in it.

    One that waits too long is asked kindly, since a job may be coming to it at that very moment."""
    if not phase:
        return Verdict(end="its runner has ended")
    if lived_s > order.lifetime_s + order.grace_s:
        return Verdict(end=f"older than {order.lifetime_s + order.grace_s:g} s")
    if lived_s > order.lifetime_s:
        return Verdict(stop=f"older than {order.lifetime_s:g} s")
    if phase == "busy" and for_s > order.job_s:
        return Verdict(stop=f"its job has run for more than {order.job_s:g} s")
    if phase == "waiting" and for_s > order.idle_s:
        return Verdict(stop=f"without a job for more than {order.idle_s:g} s", how="kindly")
    return Verdict()


class Handed:
    """`over` is what was acknowledged, None while a controller looks after the machine."""

    def __init__(self, home: Home, on_end: str) -> None:
        self._home = home
        self._on_end = on_end
        self.over: Optional[wire.HandedOver] = None
        kept = read_json(home.file(_FILE))
        if kept is not None:
            self.over = wire.decode(wire.HandedOver, json.dumps(kept["over"]).encode())
            # An earlier boot's reading says nothing here; its runner has not outlived that boot either.
            self._at = kept["at"] if kept.get("boot_id") == workload.boot_id() else boottime()

    def take(self, order: wire.HandOver, attempt: Optional[Attempt]) -> bool:
        """Whether it is new and is on the disk now: only while its runner's program runs, which has then used up the
        secret that it was given."""
        if self.over is not None and self.over.order == order:
            return False
        if attempt is None or attempt.order.runner is None or not serves(attempt):
            return False
        at = self._at if self.over is not None and self._of(attempt) else boottime()
        over = wire.HandedOver(order, attempt.order.runner.name, self._on_end)
        _mark(attempt.folder)
        value = {"over": dataclasses.asdict(over), "at": at, "boot_id": workload.boot_id()}
        write_json(self._home.file(_FILE), value, durable=True)
        flush_folder(self._home.path)
        self.over, self._at = over, at
        return True

    def verdict(self, attempt: Optional[Attempt], lived_s: float) -> Verdict:
        """What is due now. The time without a job begins with the hand-over: jobs come after the step that made it."""
        assert self.over is not None
        state: dict[str, Any] = attempt.state.get("runner") or {} if attempt is not None else {}
        if attempt is None or attempt.ended or not state:
            return due(self.over.order, lived_s, "", 0.0)
        now = boottime()
        return due(self.over.order, lived_s, state["phase"], now - max(self._at, state["since"]))

    @property
    def key(self) -> str:
        """Of the attempt that it is about."""
        assert self.over is not None
        return f"{self.over.order.job}/{self.over.order.number}"

    def _of(self, attempt: Attempt) -> bool:
        return self.key == attempt.key


def serves(attempt: Attempt) -> bool:
    """Whether its runner's program runs: fetched, registered, not ended."""
    return attempt.producing and attempt.living and bool(attempt.state.get("runner"))


def _mark(folder: str) -> None:
    with open(os.path.join(folder, HANDED_OVER), "w") as file:
        os.fsync(file.fileno())
    flush_folder(folder)
