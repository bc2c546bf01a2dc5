"""Threads, one a duty, each watched: a duty that fails is recorded, paused and begun anew while the others go on.

A duty is a function of one `Turn`: it does what there is to do, then waits on its turn until it is woken, its time has
come, or all is over.
"""

from __future__ import annotations

import threading
import time
import traceback
from typing import Callable

from .link import Backoff
from .say import say

_HEALTHY_S = 60.0  # a duty that ran this long before it failed is begun anew as if for the first time


class Turn:
    """One duty's side of the whole: `wait` for the next thing to do, `over` when all duties are to end."""

    def __init__(self, over: threading.Event) -> None:
        self._over = over
        self.news = threading.Event()

    @property
    def over(self) -> bool:
        return self._over.is_set()

    def wait(self, seconds: float) -> None:
        """Until woken, or `seconds` from now."""
        self.news.wait(seconds)
        self.news.clear()

    def wake(self) -> None:
        self.news.set()


class Duties:
    """All duties of one agent. `add` before `start`."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._turns: dict[str, Turn] = {}
        self._work: dict[str, Callable[[Turn], None]] = {}
        self.failures: dict[str, str] = {}

    def add(self, name: str, work: Callable[[Turn], None]) -> Turn:
        self._turns[name] = Turn(self._over)
        self._work[name] = work
        return self._turns[name]

    def start(self) -> None:
        for name in self._work:
            threading.Thread(target=self._watched, args=(name,), name=name, daemon=True).start()

    def wake(self, *names: str) -> None:
        """Those named, or all."""
        for name in names or tuple(self._turns):
            if name in self._turns:
                self._turns[name].wake()

    def end(self) -> None:
        self._over.set()
        self.wake()

    def wait(self) -> None:
        self._over.wait()

    def _watched(self, name: str) -> None:
        turn, backoff = self._turns[name], Backoff(0.2, 30.0)
        while not turn.over:
            began = time.monotonic()
            try:
                self._work[name](turn)
            except Exception as error:  # whatever it was, the other duties must not stop for it
                self.failures[name] = repr(error)
                say("duty.failed", duty=name, error=repr(error), where=traceback.format_exc().splitlines()[-6:])
            if time.monotonic() - began > _HEALTHY_S:
                backoff.reset()
            self._over.wait(backoff.next())
