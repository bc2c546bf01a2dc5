"""The real clock."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime


class SystemClock:
    """C2: CLOCK_BOOTTIME where there is one, because a laptop's sleep must count."""

    _ID = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.clock_gettime(self._ID)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
