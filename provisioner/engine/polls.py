"""Asking forges which jobs wait: what webhooks lost is found here, a minute later at most.

Each site is asked in a turn of its own, spread over the interval, and no more than a few at once: an adapter asks with
what it knows already, so that a site at which nothing happened costs a forge's allowance nothing. A site is asked more
often while jobs are under way there and no webhook says anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from provisioner.domain.demand import Source
from provisioner.domain.errors import ForgeError, ForgeThrottled
from provisioner.domain.forge import CiJob, Forges, Site
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock
from provisioner.domain.store import Store

_log = structlog.get_logger()
_AT_ONCE = 8  # arbitrary; GitHub wants no more than 100 requests at once, and this is not all that is asked of it


@dataclass
class _Polled:
    """Of one site. `begun`: when the two newest complete polls began, the older first. `hurried`: somebody wants to
    know. Times `_s` are monotonic."""

    asked_s: float | None = None
    done_s: float | None = None
    begun: tuple[datetime, ...] = ()
    pause_s: float = 0.0
    trouble: str = ""
    hurried: bool = False


class Polls:
    """`run` until cancelled. `relevant` says which jobs any pool might serve; `news` is called when there is some."""

    def __init__(
        self,
        store: Store,
        forges: Forges,
        clock: Clock,
        policy: Policy,
        sites: Sequence[Site],
        relevant: Callable[[CiJob], bool],
        news: Callable[[], None],
    ) -> None:
        self._store = store
        self._forges = forges
        self._clock = clock
        self._policy = policy
        self._relevant = relevant
        self._news = news
        self._polled = {site: _Polled() for site in dict.fromkeys(sites)}
        self._lane = asyncio.Semaphore(_AT_ONCE)
        self._heard_s = dict.fromkeys((site.base for site in self._polled), clock.monotonic())
        self.active: Collection[Site] = ()

    def hurry(self, site: Site) -> None:
        """There is more than is known: it is polled within `poll_silent_s`, unless the forge asked for patience."""
        self._polled[site].hurried = True

    def heard(self, base: str) -> None:
        """A webhook of the forge there has come."""
        self._heard_s[base] = self._clock.monotonic()

    async def run(self) -> None:
        count = len(self._polled)
        async with asyncio.TaskGroup() as group:
            for index, site in enumerate(self._polled):
                group.create_task(self._keep_asking(site, index / count * self._policy.poll_every_s))

    async def _keep_asking(self, site: Site, delay_s: float) -> None:
        polled = self._polled[site]
        await self._clock.sleep(delay_s)
        while True:
            async with self._lane:
                await self.poll(site)
            while (left_s := self._left_s(site, polled)) > 0:
                await self._clock.sleep(min(left_s, self._policy.poll_silent_s))

    def _left_s(self, site: Site, polled: _Polled) -> float:
        often = polled.hurried or self._silent(site)
        every_s = self._policy.poll_silent_s if often else self._policy.poll_every_s
        return (polled.asked_s or 0.0) + max(every_s, polled.pause_s) - self._clock.monotonic()

    def _silent(self, site: Site) -> bool:
        silent_s = self._clock.monotonic() - self._heard_s[site.base]
        return site in self.active and silent_s > self._policy.webhooks_silent_s

    async def poll(self, site: Site) -> None:
        """Once. What a forge does not answer is asked for again in a turn to come."""
        polled, began_at = self._polled[site], self._clock.now()
        polled.asked_s, polled.hurried = self._clock.monotonic(), False
        try:
            found = await self._forges.of(site).queued(site)
        except ForgeError as error:
            polled.trouble = error.line
            polled.pause_s = error.retry_after_s if isinstance(error, ForgeThrottled) else 0.0
            _log.warning("site.not_polled", site=site.url, error=error.message)
            return
        relevant = [job for job in found if self._relevant(job)]
        fresh = await self._store.ci_jobs.listed(site, relevant, began_at, self._clock.now())
        polled.begun = (*polled.begun, began_at)[-2:]
        polled.done_s, polled.trouble, polled.pause_s = self._clock.monotonic(), "", 0.0
        if fresh:
            _log.info("jobs.found_by_polling", site=site.url, jobs=fresh)
        self._news()

    def twice_since(self, site: Site, at: datetime) -> bool:
        """Whether two complete polls of the site began after that."""
        begun = self._polled[site].begun if site in self._polled else ()
        return len(begun) == 2 and begun[0] > at

    def sources(self) -> list[Source]:
        now_s = self._clock.monotonic()
        return [
            Source(f"poll {site.url}", None if one.done_s is None else round(now_s - one.done_s, 1), one.trouble)
            for site, one in self._polled.items()
        ]
