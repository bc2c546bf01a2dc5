"""Virtual time: an event loop that jumps to its next timer instead of waiting for it, and the clock that it drives.

Single-threaded and without any input from outside, so that the same seed gives the same run, and eight hours cost
nothing.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")
EPOCH = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


class Stuck(RuntimeError):
    """Everybody waits and no timer is left: nothing would ever happen again."""


class _Jumping(selectors.SelectSelector):
    """Answers at once, having moved the time on by as much as it was asked to wait."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck("nothing will ever happen again")
        self.now_s += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end in virtual time; what it left running is cancelled."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.get_loop().set_exception_handler(lambda *_: None)
        return runner.run(main)


class SimClock:
    """The Clock port over the running virtual loop. `step` sets the wall clock, not the monotonic one."""

    def __init__(self) -> None:
        self._offset = timedelta(0)

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self.monotonic()) + self._offset

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @property
    def stepped(self) -> bool:
        return self._offset != timedelta(0)

    def step(self, seconds: float) -> None:
        self._offset += timedelta(seconds=seconds)
