"""One thread, for a database that one connection uses at a time: what is urgent first, otherwise in order.

What waits is taken together, a group at a time, so that the disk is waited for once for all of it."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Condition, Thread
from typing import Any, TypeVar

T = TypeVar("T")
Outcome = tuple[Any, BaseException | None]  # what it returned, or what it raised
_TOGETHER = 16  # arbitrary: what is urgent waits for no more than this of what is not


class Lane:
    """`together` runs each of a group, in its order, and says what became of it; it raises nothing."""

    def __init__(self, name: str, together: Callable[[Sequence[Callable[..., Any]]], Sequence[Outcome]]) -> None:
        self._together = together
        self._ready = Condition()
        self._heap: list[tuple[bool, int, Callable[..., Any], Future[Any]]] = []
        self._count = itertools.count()
        self._open = True
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[..., T], *, urgent: bool) -> Future[T]:
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
        while group := self._next():
            wanted = [(work, future) for work, future in group if future.set_running_or_notify_cancel()]
            outcomes = self._together([work for work, _ in wanted])
            for (_, future), (value, error) in zip(wanted, outcomes, strict=True):
                if error is None:
                    future.set_result(value)
                else:
                    future.set_exception(error)
            del group, wanted, outcomes  # none outlives its turn while the lane is idle

    def _next(self) -> list[tuple[Callable[..., Any], Future[Any]]]:
        """Either what is urgent or what is not; nothing once it is closed and all is done."""
        with self._ready:
            self._ready.wait_for(lambda: self._heap or not self._open)
            group: list[tuple[Callable[..., Any], Future[Any]]] = []
            later = bool(self._heap) and self._heap[0][0]
            while self._heap and self._heap[0][0] is later and len(group) < _TOGETHER:
                _, _, work, future = heapq.heappop(self._heap)
                group.append((work, future))
            return group
