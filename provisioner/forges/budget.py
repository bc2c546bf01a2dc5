"""How much one identity may still ask of a forge, by what the forge has said so far.

Three things keep a call back. A *hold*: the forge has refused, and nothing is sent before that time is over. An
*allowance*: so many calls are left in this hour, of which a share is kept for removals. *Turns*: our own count of what
a forge counts by the minute without saying how much is left.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from provisioner.domain.errors import ForgeThrottled
from provisioner.domain.ports import Clock

KEPT = 0.2  # of every allowance, for removals
_FIRST_HOLD_S = 60.0  # Source: GitHub REST best practices, 2026: a minute at least when it does not say, then longer
_LONGEST_HOLD_S = 900.0  # arbitrary
_SURELY = 0.75  # arbitrary: of the quickest exchange lately; the next may be quicker by the rest


@dataclass(frozen=True, slots=True)
class Rate:
    """No more than `most` calls in any `within_s` seconds."""

    most: int
    within_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Allowance:
    """So many calls of `limit` are `left` until `until_s` of our own monotonic clock."""

    limit: int
    left: int
    until_s: float


@dataclass(slots=True)
class Exchange:
    """`took_s`: from the first byte sent to the last one read; 0 where that is not known."""

    took_s: float = 0.0


class Turns:
    """At one endpoint. A call's place is free again `within_s` after the last moment at which the forge can have
    counted it, so that no such time has more of them there than `most`.

    That moment is its answer, but for this: until the next one is counted, the way back of the answer and the way of
    the next call there are over as well, which is a whole exchange. Most of the quickest of that time is taken off,
    so that what answers take does not add up."""

    def __init__(self, rate: Rate, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._answers: deque[tuple[float, Exchange]] = deque()
        self._quickest_s = math.inf
        self._under_way = 0
        self._waiting = 0
        self._line = asyncio.Lock()
        self._answered = asyncio.Event()

    def wait_s(self) -> float:
        """How long one more would wait, at the least."""
        missing = self._waiting + 1 - self._room()
        if missing <= 0:
            return 0.0
        if missing <= len(self._answers):
            return self._left_s(missing - 1)
        return math.ceil((missing - len(self._answers)) / self._rate.most) * self._rate.within_s

    async def take(self) -> None:
        """First come, first served."""
        self._waiting += 1
        try:
            async with self._line:
                while not self._room():
                    await self._next_free()
                self._under_way += 1
        finally:
            self._waiting -= 1

    def answered(self, exchange: Exchange) -> None:
        self._under_way -= 1
        self._answers.append((self._clock.monotonic(), exchange))
        self._quickest_s = min(self._quickest_s, exchange.took_s)
        self._answered.set()

    def not_used(self) -> None:
        """Nothing was sent after all."""
        self._under_way -= 1
        self._answered.set()

    def _room(self) -> int:
        while self._answers and self._left_s(0) <= 0:
            if self._answers.popleft()[1].took_s <= self._quickest_s:
                self._quickest_s = min((exchange.took_s for _, exchange in self._answers), default=math.inf)
        return self._rate.most - self._under_way - len(self._answers)

    def _left_s(self, index: int) -> float:
        return self._answers[index][0] - _SURELY * self._quickest_s + self._rate.within_s - self._clock.monotonic()

    async def _next_free(self) -> None:
        if self._answers:
            await self._clock.sleep(self._left_s(0))
        else:
            self._answered.clear()
            await self._answered.wait()


class Budget:
    """Of one identity. Turns are by endpoint, allowances by what the forge counts calls as."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held_until_s = 0.0
        self._holds = 0
        self._allowances: dict[str, Allowance] = {}
        self._names: dict[str, str] = {}
        self._turns: dict[str, Turns] = {}

    @asynccontextmanager
    async def turn(
        self, resource: str, removal: bool, endpoint: str = "", rate: Rate | None = None, patience_s: float = 0.0
    ) -> AsyncIterator[Exchange]:
        """Entered when a call may be sent, at its turn at an endpoint that may be called at `rate`, and left with its
        answer; how long the exchange took is to be noted in what is given.

        Raises: ForgeThrottled, and then it may not, or not within `patience_s`."""
        self._check(resource, removal)
        if rate is None:
            self._count(resource)
            yield Exchange()
            return
        turns = self._turns.setdefault(endpoint, Turns(rate, self._clock))
        if (wait_s := turns.wait_s()) > patience_s:
            raise _later("as many calls as it may have are sent or wait already", wait_s)
        await turns.take()
        try:
            self._check(resource, removal)
        except ForgeThrottled:
            turns.not_used()
            raise
        exchange = Exchange()
        try:
            self._count(resource)
            yield exchange
        finally:
            turns.answered(exchange)

    def note(self, asked: str, counted: str, allowance: Allowance | None, *, free: bool = False) -> None:
        """What an answer said of the allowance that it was `counted` under, which need not be the one `asked` for.
        `free`: the forge may not have counted it, so that our own count of it is taken back.

        None: it said nothing, as a gateway's does, and what is known holds on. Answers overtake one another: within one
        hour what is left only grows less."""
        if allowance is None:
            return
        self._names[asked] = counted
        known = self._allowances.get(counted)
        if free and known is not None:
            known = replace(known, left=known.left + 1)
        if known is not None and abs(known.until_s - allowance.until_s) < 2 and known.limit == allowance.limit:
            allowance = replace(allowance, left=min(known.left, allowance.left))
        self._allowances[counted] = allowance

    def served(self) -> None:
        """The forge answers again."""
        self._holds = 0

    def hold(self, seconds: float | None) -> float:
        """The forge has refused for so long, or (None) without saying how long: the seconds that nothing is sent."""
        wait_s = seconds if seconds is not None else min(_FIRST_HOLD_S * 2**self._holds, _LONGEST_HOLD_S)
        self._holds += seconds is None
        self._held_until_s = max(self._held_until_s, self._clock.monotonic() + wait_s)
        return wait_s

    def _check(self, resource: str, removal: bool) -> None:
        now_s = self._clock.monotonic()
        if (wait_s := self._held_until_s - now_s) > 0:
            raise _later("the forge asked for patience", wait_s)
        allowance = self._allowances.get(self._names.get(resource, resource))
        if allowance is None or now_s >= allowance.until_s:
            return
        if allowance.left <= (0 if removal else allowance.limit * KEPT):
            what = "nothing is left" if allowance.left <= 0 else "what is left is kept for removals"
            raise _later(f"{what} of {allowance.limit} calls", allowance.until_s - now_s)

    def _count(self, resource: str) -> None:
        name = self._names.get(resource, resource)
        if (allowance := self._allowances.get(name)) is not None:
            self._allowances[name] = replace(allowance, left=allowance.left - 1)


def _later(why: str, wait_s: float) -> ForgeThrottled:
    return ForgeThrottled(f"not asked: {why}; again in {wait_s:.0f} s", retry_after_s=wait_s)
