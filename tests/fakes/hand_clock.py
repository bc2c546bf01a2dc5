"""A clock that stands still until it is moved, for adapters and fake servers that share it. Sleeping moves it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

BEGAN_AT = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


class HandClock:
    """The Clock port. Who sleeps comes back at once, and it is that much later for everybody."""

    def __init__(self) -> None:
        self._passed_s = 0.0

    def now(self) -> datetime:
        return BEGAN_AT + timedelta(seconds=self._passed_s)

    def monotonic(self) -> float:
        return self._passed_s

    async def sleep(self, seconds: float) -> None:
        self.move(seconds)
        await asyncio.sleep(0)

    def move(self, seconds: float) -> None:
        self._passed_s += max(0.0, seconds)
