"""How much one identity may still ask of a forge, by what the forge has said so far.

Three things keep a call back. A *hold*: the forge has refused, and nothing is sent before that time is over. An
*allowance*: so many calls are left in this hour, of which a share is kept for removals. A *pace*: our own bucket of
tokens for what a forge counts by the minute without saying how much is left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from provisioner.domain.errors import ForgeThrottled
from provisioner.domain.ports import Clock

KEPT = 0.2  # of every allowance, for removals
_FIRST_HOLD_S = 60.0  # Source: GitHub REST best practices, 2026: a minute at least when it does not say, then longer
_LONGEST_HOLD_S = 900.0  # arbitrary


@dataclass(frozen=True, slots=True)
class Rate:
    """Tokens that fit, and that come back in a second."""

    size: float
    per_s: float


@dataclass(frozen=True, slots=True)
class Allowance:
    """So many calls of `limit` are `left` until `until_s` of our own monotonic clock."""

    limit: int
    left: int
    until_s: float


class Bucket:
    """Tokens are taken in advance: who takes one is told how long it is until it is there."""

    def __init__(self, rate: Rate, now_s: float) -> None:
        self._rate = rate
        self._tokens = rate.size
        self._at = now_s

    def take(self, now_s: float) -> float:
        self._tokens = min(self._rate.size, self._tokens + (now_s - self._at) * self._rate.per_s)
        self._at = now_s
        self._tokens -= 1
        return max(0.0, -self._tokens / self._rate.per_s)

    def give_back(self) -> None:
        self._tokens += 1


class Budget:
    """Of one identity. Buckets are by endpoint, allowances by what the forge counts calls as."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held_until_s = 0.0
        self._holds = 0
        self._allowances: dict[str, Allowance] = {}
        self._names: dict[str, str] = {}
        self._buckets: dict[str, Bucket] = {}

    async def enter(
        self, resource: str, removal: bool, endpoint: str = "", rate: Rate | None = None, patience_s: float = 0.0
    ) -> None:
        """Comes back when a call may be sent, at its turn at an endpoint that may be called at `rate`.

        Raises: ForgeThrottled, and then it may not, or not within `patience_s`."""
        self._check(resource, removal)
        if rate is not None:
            bucket = self._buckets.setdefault(endpoint, Bucket(rate, self._clock.monotonic()))
            wait_s = bucket.take(self._clock.monotonic())
            if wait_s > patience_s:
                bucket.give_back()
                raise _later(f"{wait_s:.0f} s of calls are waiting already", wait_s)
            if wait_s:
                await self._clock.sleep(wait_s)
                self._check(resource, removal)
        self._count(resource)

    def note(self, asked: str, counted: str, allowance: Allowance | None) -> None:
        """What an answer said of the allowance that it was `counted` under, which need not be the one `asked` for.

        Answers overtake one another: within one hour what is left only grows less."""
        self._names[asked] = counted
        if allowance is None:
            return
        known = self._allowances.get(counted)
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
