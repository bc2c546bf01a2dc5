"""The share of a forge's hour that listings may use, all sites together: the rest is for what is done there."""

from __future__ import annotations

from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock

_AT_ONCE = 300  # arbitrary, of 1,500 an hour: those that come back in that time, 3 s each, are the other 1,200


class Share:
    """In no hour are there more than 1,500 calls, of the 5,000 that GitHub allows."""

    def __init__(self, clock: Clock, policy: Policy) -> None:
        self._clock = clock
        self._call_s = policy.listing_call_s
        self._left = float(_AT_ONCE)
        self._filled_s: float | None = None

    def has(self, calls: int) -> bool:
        self._fill()
        return self._left >= min(calls, _AT_ONCE)

    def take(self, calls: int) -> None:
        """What was not used after all is given back as less than none; what was used beyond is owed."""
        self._fill()
        self._left -= calls

    def _fill(self) -> None:
        now_s = self._clock.monotonic()
        if self._filled_s is not None:
            self._left = min(self._left + (now_s - self._filled_s) / self._call_s, float(_AT_ONCE))
        self._filled_s = now_s
