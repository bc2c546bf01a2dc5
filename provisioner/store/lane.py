"""One thread, for a database that one connection uses at a time: what is urgent first, otherwise in order."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from concurrent.futures import Future
from threading import Condition, Thread
from typing import Any, TypeVar

T = TypeVar("T")


class Lane:
    def __init__(self, name: str) -> None:
        self._ready = Condition()
        self._heap: list[tuple[bool, int, Callable[[], Any], Future[Any]]] = []
        self._count = itertools.count()
        self._open = True
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], T], *, urgent: bool) -> Future[T]:
        """Raises: RuntimeError when it is closed."""
        future: Future[T] = Future()
        with self._ready:
            if not self._open:
                raise RuntimeError("the database is closed")
            heapq.heappush(self._heap, (not urgent, next(self._count), work, future))
            self._ready.notify()
        return future

    def close(self) -> None:
        """What was submitted is done first."""
        with self._ready:
            self._open = False
            self._ready.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._heap or not self._open)
                if not self._heap:
                    return
                _, _, work, future = heapq.heappop(self._heap)
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
            del work, future  # neither outlives its turn while the lane is idle
