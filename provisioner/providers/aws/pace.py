"""How fast EC2 may be called: one bucket of tokens for each class of calls and region, as EC2 itself keeps them.

A call waits here for its token, in order, rather than being refused there; deletes have a bucket of their own, so that
launches never hold them up. Times come from a clock that is handed in.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum

from provisioner.domain.ports import Clock


class Calls(StrEnum):
    """Classes of calls that share a bucket."""

    READ = "read"
    LAUNCH = "launch"
    DELETE = "delete"
    CHANGE = "change"
    SCHEDULE = "schedule"


@dataclass(frozen=True, slots=True)
class Rate:
    """Tokens that fit, and that come back in a second."""

    size: float
    per_s: float


# Source: Amazon EC2 developer guide, "Request throttling for the Amazon EC2 API": reads 100 and 20/s,
# RunInstances 5 and 2/s (its other bucket, 1,000 machines and 2/s, is never the narrower one), TerminateInstances 100
# and 5/s, other changes 50 and 5/s. Of reads and changes a share is used, since a controller is seldom alone in its
# account; of launches nearly all, less what calls that overtake one another on their way could spoil.
RATES = {
    Calls.READ: Rate(50, 10),
    Calls.LAUNCH: Rate(4, 2),
    Calls.DELETE: Rate(50, 5),
    Calls.CHANGE: Rate(25, 2.5),
    Calls.SCHEDULE: Rate(25, 5),  # arbitrary: EventBridge Scheduler counts for itself, and grants far more
}


class Bucket:
    """`take` returns once there is a token. First come, first served."""

    def __init__(self, rate: Rate, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._tokens = rate.size
        self._at = clock.monotonic()
        self._turn = asyncio.Lock()

    async def take(self) -> None:
        async with self._turn:
            self._refill()
            if self._tokens < 1:
                await self._clock.sleep((1 - self._tokens) / self._rate.per_s)
                self._refill()
            self._tokens -= 1

    def empty(self) -> None:
        """The cloud said that there are none left: somebody else in the account took them."""
        self._refill()
        self._tokens = min(self._tokens, 0.0)

    def _refill(self) -> None:
        now = self._clock.monotonic()
        self._tokens = min(self._rate.size, self._tokens + (now - self._at) * self._rate.per_s)
        self._at = now
