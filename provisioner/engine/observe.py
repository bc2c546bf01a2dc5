"""What was seen and heard: listings of every provider, cached and shared, and what each agent said last.

A scope that answers with an error keeps what was known of it; what was never listed is unknown. Silence counts from
`listening_since`, which begins anew after a start, a sleep or a clock jump.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog

from provisioner.domain.errors import ProviderError
from provisioner.domain.facts import Absent, Report, Seen, Sighting, Unknown
from provisioner.domain.job import Instance
from provisioner.domain.offer import Listing, Machine
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock, Provider

_log = structlog.get_logger()
_DEAF_S = 30.0  # arbitrary: a loop that was away longer than this was asleep, and heard nothing meanwhile


class Observed:
    """`listings` by (provider, scope): the latest complete one. `since` by name: the first that lacked a machine."""

    def __init__(self, providers: Mapping[str, Provider], clock: Clock, policy: Policy) -> None:
        self._providers = providers
        self._clock = clock
        self._policy = policy
        self.listings: dict[tuple[str, str], Listing] = {}
        self.previous: dict[tuple[str, str], frozenset[str]] = {}
        self.reports: dict[str, Report] = {}
        self.listening_since = clock.now()
        self._missing_since: dict[str, datetime] = {}
        self._index: dict[tuple[str, str], dict[str, Machine]] = {}
        self._asked_at: dict[str, datetime] = {}
        self._wanted: set[str] = set()
        self._last_pass_s = clock.monotonic()

    def began_pass(self) -> None:
        """Call at each pass: notices that the controller itself was away."""
        now_s = self._clock.monotonic()
        if now_s - self._last_pass_s > _DEAF_S:
            self.listening_since = self._clock.now()
        self._last_pass_s = now_s

    def want(self, provider: str) -> None:
        """Something was done there: list it again at the next pass."""
        self._wanted.add(provider)

    async def refresh(self, live: set[str]) -> None:
        """List the providers that are due: often where instances live, seldom elsewhere (for the collector)."""
        now = self._clock.now()
        due = [name for name in self._providers if self._due(name, name in live, now)]
        await asyncio.gather(*(self._list(name, now) for name in due))

    def next_due(self, live: set[str]) -> datetime:
        return min(self._asked_at.get(n, self._clock.now()) + self._pause(n in live) for n in self._providers)

    def _due(self, name: str, has_live: bool, now: datetime) -> bool:
        asked_at = self._asked_at.get(name)
        return name in self._wanted or asked_at is None or not asked_at <= now < asked_at + self._pause(has_live)

    def _pause(self, has_live: bool) -> timedelta:
        return timedelta(seconds=self._policy.list_every_s if has_live else self._policy.collect_every_s)

    async def _list(self, name: str, now: datetime) -> None:
        self._asked_at[name] = now
        self._wanted.discard(name)
        try:
            listings = await self._providers[name].machines()
        except ProviderError as error:
            _log.warning("provider.not_listed", provider=name, error=error.message)
            return
        for listing in listings:
            if listing.complete:
                self._take(name, listing)
            else:
                _log.warning("provider.scope_not_listed", provider=name, scope=listing.scope, error=listing.error)

    def _take(self, provider: str, listing: Listing) -> None:
        key = (provider, listing.scope)
        before = self.listings.get(key)
        if before is not None and listing.taken_at <= before.taken_at:
            return
        self.previous[key] = frozenset(m.name for m in before.machines) if before else frozenset()
        self.listings[key] = listing
        self._index[key] = {machine.name: machine for machine in listing.machines}

    def sighting(self, instance: Instance) -> Sighting:
        key = (instance.offer.provider, instance.offer.scope)
        listing = self.listings.get(key)
        if listing is None or (listing.taken_at < instance.phase_at and instance.launched_at is None):
            return Unknown()
        if (machine := self._index[key].get(instance.name)) is not None:
            self._missing_since.pop(instance.name, None)
            return Seen(machine)
        since = self._missing_since.setdefault(instance.name, listing.taken_at)
        return Absent(since, listing.taken_at)

    def forget(self, instance: Instance) -> None:
        self._missing_since.pop(instance.name, None)
        self.reports.pop(instance.id, None)
