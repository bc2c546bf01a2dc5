"""What was seen and heard: listings of every provider, cached and shared, and what each agent said last.

A scope that answers with an error keeps what was known of it; what was never listed is unknown. After a start, a sleep
or a clock jump everything begins anew: silence counts from `listening_since`, and absence is believed only once the
cloud has had `visibility_s` since then, because no time written before can be compared with one read now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime

import structlog

from provisioner.domain.errors import ProviderError
from provisioner.domain.facts import Absent, GivenUp, Report, Seen, Sighting, Unknown
from provisioner.domain.job import Instance
from provisioner.domain.offer import Listing, Machine
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock, Provider

_log = structlog.get_logger()
_DEAF_S = 30.0  # arbitrary: a loop that was away longer than this was asleep, and heard nothing meanwhile
_STEP_S = 2.0  # arbitrary: wall and monotonic clock may drift apart by this much between two looks
_PATIENCE_S = 0.05  # what a pass waits for a listing, unless the last one took longer; news poke when they are there


def deaf_after_s(policy: Policy) -> float:
    """How long the loop may be away before it counts as having slept; naps must be well below it."""
    return min(_DEAF_S, policy.silence_s / 3)


class Observed:
    """`listings` by (provider, scope): the latest complete one. `previous`: the names in the one before it."""

    def __init__(
        self, providers: Mapping[str, Provider], clock: Clock, policy: Policy, news: Callable[[], None]
    ) -> None:
        self._providers = providers
        self._clock = clock
        self._policy = policy
        self._news = news
        self.listings: dict[tuple[str, str], Listing] = {}
        self.previous: dict[tuple[str, str], frozenset[str]] = {}
        self.reports: dict[str, Report] = {}
        self.listening_since = clock.now()
        self.others_since: datetime | None = None
        self.elsewhere: dict[str, datetime] = {}
        self.skipped: tuple[tuple[datetime, float], ...] = ()
        self._listening_since_s = clock.monotonic()
        self._asked_s: dict[tuple[str, str], float] = {}
        self._missing_since: dict[str, datetime] = {}
        self._index: dict[tuple[str, str], dict[str, Machine]] = {}
        self._first_s: dict[tuple[str, str], dict[str, float]] = {}
        self._listed_s: dict[str, float] = {}
        self._wanted: set[str] = set()
        self._listing: dict[str, asyncio.Task[None]] = {}
        self._took_s: dict[str, float] = {}
        self._unlisted: dict[tuple[str, str], str] = {}
        self._fresh = self._some_absent = False
        self._live: frozenset[str] = frozenset()
        self._shown: dict[str, str] = {}
        self._last_at, self._last_s = clock.now(), clock.monotonic()
        self._broke = False

    def keep_time(self) -> bool:
        """Call often: whether the controller was away, or its clock was set, since the last call."""
        now, now_s = self._clock.now(), self._clock.monotonic()
        passed_s = now_s - self._last_s
        step_s = (now - self._last_at).total_seconds() - passed_s
        stepped = abs(step_s) > _STEP_S
        if stepped:  # set back, the readings before cannot be told from those after
            self.skipped = (*self.skipped, (self._last_at, step_s)) if step_s > 0 else ()
        self._last_at, self._last_s = now, now_s
        broke, self._broke = self._broke, False
        if not stepped and passed_s <= deaf_after_s(self._policy):
            return False
        if broke and not stepped:
            _log.info("engine.resumed", stood_still_s=round(passed_s, 1))
        else:
            _log.info("controller.was_away", slept_s=round(passed_s, 1), clock_was_set=stepped)
        self._begin_anew(now, now_s)
        return True

    def _begin_anew(self, now: datetime, now_s: float) -> None:
        self.listening_since, self._listening_since_s = now, now_s
        for known in (self.listings, self.previous, self._index, self._missing_since, self._asked_s, self._listed_s):
            known.clear()
        self._first_s.clear()
        self._shown.clear()
        self.elsewhere.clear()
        self.others_since = None
        for key, report in self.reports.items():
            self.reports[key] = replace(report, heard_at=min(report.heard_at, now))

    @property
    def silent_from(self) -> datetime:
        """Before this nobody's silence counts."""
        return max(self.listening_since, self.others_since or self.listening_since)

    def want(self, provider: str) -> None:
        """Something was done there: list it again at the next pass."""
        self._wanted.add(provider)

    async def refresh(self, live: Collection[str]) -> None:
        """List the providers that are due: often where instances live, seldom elsewhere (for the collector)."""
        self._live = frozenset(live)
        now_s = self._clock.monotonic()
        for name in self._providers:
            if name not in self._listing and self._due_s(name, name in live) <= now_s:
                self._listed_s[name] = now_s
                self._wanted.discard(name)
                task = asyncio.create_task(self._list(name, now_s), name=f"list {name}")
                self._listing[name] = task
                task.add_done_callback(lambda _, name=name, began_s=now_s: self._listed(name, began_s))  # type: ignore[misc]
        soon = [task for name, task in self._listing.items() if self._took_s.get(name, 0.0) <= _PATIENCE_S]
        if soon:
            await asyncio.wait(soon, timeout=_PATIENCE_S)

    def _listed(self, name: str, began_s: float) -> None:
        del self._listing[name]
        self._took_s[name] = self._clock.monotonic() - began_s
        if name in self._wanted:
            self._news()

    async def refresh_fully(self) -> None:
        """List every provider anew and wait for all of them."""
        while self._listing:
            await asyncio.wait(set(self._listing.values()))
        self._wanted |= set(self._providers)
        await self.refresh(self._live)
        while self._listing:
            await asyncio.wait(set(self._listing.values()))

    def next_due_s(self, live: Collection[str]) -> float:
        """Seconds until some provider is to be listed."""
        now_s = self._clock.monotonic()
        names = [name for name in self._providers if name not in self._listing]
        return min((self._due_s(name, name in live) - now_s for name in names), default=self._policy.collect_every_s)

    def _due_s(self, name: str, has_live: bool) -> float:
        listed_s = self._listed_s.get(name)
        if listed_s is None or name in self._wanted:
            return float("-inf")
        return listed_s + (self._policy.list_every_s if has_live else self._policy.collect_every_s)

    async def _list(self, name: str, asked_s: float) -> None:
        began = self.listening_since
        try:
            listings = await self._providers[name].machines()
        except ProviderError as error:
            if self._is_new(name, "", error.message):
                _log.warning("provider.not_listed", provider=name, error=error.message)
            return
        except Exception as error:
            _log.error("provider.not_listed", provider=name, error=repr(error), exc_info=error)
            return
        self._unlisted.pop((name, ""), None)
        self.keep_time()
        if began is not self.listening_since:
            self.want(name)
            return
        news = False
        for listing in listings:
            if listing.complete:
                self._unlisted.pop((name, listing.scope), None)
                news |= self._take(name, listing, asked_s)
            elif self._is_new(name, listing.scope, listing.error or ""):
                _log.warning("provider.scope_not_listed", provider=name, scope=listing.scope, error=listing.error)
        if news and name in self._live:
            self._news()

    def _is_new(self, provider: str, scope: str, error: str) -> bool:
        """A trouble that lasts is said once, until it is over or is another."""
        before = self._unlisted.get((provider, scope))
        self._unlisted[provider, scope] = error
        return before != error

    def _take(self, provider: str, listing: Listing, asked_s: float) -> bool:
        """Whether it could change what is decided of any instance."""
        key = (provider, listing.scope)
        before = self.listings.get(key)
        if before is not None and listing.taken_at <= before.taken_at:
            return False
        self.previous[key] = frozenset(m.name for m in before.machines) if before else frozenset()
        self.listings[key] = listing
        self._asked_s[key] = asked_s
        index_before = self._index.get(key)
        self._index[key] = {machine.name: machine for machine in listing.machines}
        first_s = self._first_s.get(key, {})
        self._first_s[key] = {name: first_s.get(name, asked_s) for name in self._index[key]}
        news = self._some_absent or self._index[key] != index_before
        self._fresh |= news
        return news

    def concerned(self, instances: Iterable[Instance]) -> set[str]:
        """Instances of which a new listing says something else than the one before, or that it lacks."""
        if not self._fresh:
            return set()
        self._fresh = self._some_absent = False
        found = set()
        for instance in instances:
            machine = self._index.get((instance.offer.provider, instance.offer.scope), {}).get(instance.name)
            shown = str(machine.state) if machine else "absent"
            self._some_absent |= machine is None
            if self._shown.get(instance.id) != shown or machine is None:
                found.add(instance.id)
            self._shown[instance.id] = shown
        return found

    def sighting(self, instance: Instance) -> Sighting:
        key = (instance.offer.provider, instance.offer.scope)
        listing = self.listings.get(key)
        if listing is None:
            return Unknown()
        if (machine := self._index[key].get(instance.name)) is not None:
            self._missing_since.pop(instance.name, None)
            return Seen(machine)
        if listing.given_up:
            return GivenUp(listing.given_up)
        if instance.name in listing.ended:
            return Absent(listing.taken_at, listing.taken_at, ended=True)
        if self._asked_s[key] - self._listening_since_s < self._providers[instance.offer.provider].visibility_s:
            return Unknown()
        since = self._missing_since.setdefault(instance.name, listing.taken_at)
        return Absent(since, listing.taken_at)

    def seen_for_s(self, provider: str, scope: str) -> dict[str, float]:
        """How long each machine of the latest listing has been in every one, by name."""
        now_s = self._clock.monotonic()
        return {name: now_s - first_s for name, first_s in self._first_s.get((provider, scope), {}).items()}

    def forget(self, instance: Instance) -> None:
        self._missing_since.pop(instance.name, None)
        self._shown.pop(instance.id, None)
        self.reports.pop(instance.id, None)

    async def close(self) -> None:
        """End listings that are under way. Until time is kept again, nothing goes on: the loop has broken off."""
        self._broke = True
        for task in self._listing.values():
            task.cancel()
        await asyncio.gather(*self._listing.values(), return_exceptions=True)
