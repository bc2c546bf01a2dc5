"""Controllers that share one database: each tells the others that it is there and whom it has heard.

An agent speaks to one controller only. The others must not take that for silence, nor what no agent could have told
them: one controller's sleep, start or death is silence of nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock
from provisioner.domain.store import Controllers

from .observe import Observed

_TURNS = 6  # arbitrary: within the time after which silence counts
_MISSED = 3  # arbitrary: turns that a controller may miss before it is taken for gone
_REMEMBERED = 4  # arbitrary: times of silence for which a controller that is gone is remembered


class Attending:
    """`urls` are where agents find this controller, then the others that are there now."""

    def __init__(
        self,
        controllers: Controllers,
        holder: str,
        urls: Sequence[str],
        observed: Observed,
        clock: Clock,
        policy: Policy,
    ) -> None:
        self._controllers = controllers
        self._holder = holder
        self._own = tuple(urls)
        self._observed = observed
        self._clock = clock
        self._every_s = policy.silence_s / _TURNS
        self._forget_s = policy.silence_s * _REMEMBERED
        self._last_s: float | None = None
        self._told_until = clock.now()
        self._since: datetime | None = None
        self.urls: tuple[str, ...] = self._own

    async def turn(self) -> None:
        """When it is time for it. Raises: StoreError."""
        now_s = self._clock.monotonic()
        anew = self._since is not self._observed.listening_since
        if not anew and self._last_s is not None and now_s - self._last_s < self._every_s:
            return
        now = self._clock.now()
        fresh = [key for key, report in self._observed.reports.items() if anew or report.heard_at >= self._told_until]
        attendance = await self._controllers.attend(
            self._holder, self._own, fresh, now, anew=anew, forget_s=self._forget_s
        )
        self._since, self._last_s, self._told_until = self._observed.listening_since, now_s, now
        gone_s = self._every_s * _MISSED
        there = [other for other in attendance.others if other.seen_age_s < gone_s]
        self.urls = tuple(dict.fromkeys((*self._own, *(url for other in there for url in other.urls))))
        ages_s = [o.since_age_s if o.seen_age_s < gone_s else o.seen_age_s for o in attendance.others]
        self._observed.others_since = now - timedelta(seconds=min(ages_s)) if ages_s else None
        self._observed.elsewhere = {
            key: now - timedelta(seconds=age_s) for key, age_s in attendance.heard_ages_s.items()
        }

    async def leave(self) -> None:
        await self._controllers.leave(self._holder)
