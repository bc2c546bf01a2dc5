"""What forges say of the sites that we have runners at: who is there, with which program, and whether they answer.

A site is listed for as long as a record of ours is there or a job waits to be a runner there, and for a while longer;
seldom enough that a forge's hourly limit suffices for all sites together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import inf

from provisioner.domain.errors import ForgeError, ForgeThrottled, InvalidRequest
from provisioner.domain.forge import Counted, Forges, Runner, Site, Software, runner_site
from provisioner.domain.job import Job
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock
from provisioner.domain.store import Event, Store

from .errands import Errands
from .ghosts import GhostHunt
from .share import Share

_SOFTWARE_S = 3600.0
_FRESH_S = 300.0  # arbitrary
_TROUBLE_S = 60.0  # arbitrary: longer than a site with something to do is left unasked
_ARCH = "x86_64"


@dataclass
class _Known:
    """Of one site. `listed_s` monotonic seconds of the last complete listing, which was asked for at `asked_at`,
    `offline` those of the one before it, `trouble` why there is none, `told` whether an event says so; `ending` the
    program that the forge will soon refuse; `calls` what the last complete listing cost, one at least."""

    listed_s: float | None = None
    asked_at: datetime | None = None
    asked_s: float | None = None
    runners: dict[str, Runner] = field(default_factory=dict)
    offline: frozenset[str] = frozenset()
    trouble: str = ""
    told: bool = False
    ending: Software | None = None
    warned_at: datetime | None = None
    calls: int = 1


class Sites:
    def __init__(self, store: Store, forges: Forges, clock: Clock, policy: Policy, news: Callable[[], None]) -> None:
        self._store = store
        self._forges = forges
        self._clock = clock
        self._policy = policy
        self._news = news
        self.ghosts = GhostHunt(store, forges, clock)
        self._known: dict[Site, _Known] = {}
        self._wanted: set[Site] = set()
        self._until_s: dict[Site, float] = {}
        self._software: dict[tuple[Site, str], tuple[float, Software]] = {}
        self._listing = Errands("list")
        self._share = Share(clock, policy)
        self._every_s = policy.runners_every_s
        self._dead: set[tuple[str, str]] | None = None

    def seen(self, site: Site, name: str) -> Runner | None:
        known = self._known.get(site)
        return known.runners.get(name) if known else None

    def at_work_at(self, site: Site, name: str) -> datetime | None:
        """When it was last shown online and with a job; None where the latest listing shows otherwise."""
        known, seen = self._known.get(site), self.seen(site, name)
        return known.asked_at if known and seen and seen.online and seen.busy else None

    def want(self, site: Site, unless_within_s: float = 0.0) -> None:
        """Something was done there: list it at the next turn, if it was not asked so lately."""
        known = self._known.get(site)
        if known is None or known.asked_s is None or self._clock.monotonic() - known.asked_s >= unless_within_s:
            self._wanted.add(site)

    def resume(self, site: Site) -> None:
        """It can be asked again: it is listed at the next turn, however lately it was asked."""
        self._known.setdefault(site, _Known()).asked_s = None
        self._wanted.add(site)

    @property
    def trouble(self) -> dict[Site, str]:
        """By site, why nothing is made for it; those that nobody has wanted anything of for a while are left out."""
        return {site: known.trouble for site, known in self._lately() if known.trouble}

    @property
    def ending(self) -> dict[Site, Software]:
        """By site, the program that its forge will soon refuse, where nobody is in trouble yet."""
        return {site: known.ending for site, known in self._lately() if known.ending is not None and not known.trouble}

    @property
    def _fresh_s(self) -> float:
        """For how long an answer is believed: longer than any site with something to do is left unasked."""
        return max(_FRESH_S, 4 * self._every_s)

    def _lately(self) -> list[tuple[Site, _Known]]:
        since_s = self._clock.monotonic() - max(_TROUBLE_S, 2 * self._every_s)
        return [(site, known) for site, known in self._known.items() if (known.asked_s or 0.0) >= since_s]

    def failed(self, site: Site, error: ForgeError) -> None:
        """It was asked for something and would not: nothing more is made for it before a listing has succeeded."""
        self._known.setdefault(site, _Known()).trouble = error.line
        self._wanted.add(site)

    def blocked(self, job: Job) -> str:
        """Why no machine should be rented for it yet; "" when its forge is known to answer, or it needs none."""
        if job.spec.runner is None:
            return ""
        try:
            site = runner_site(job.spec.runner)
        except InvalidRequest as error:
            return error.line
        known = self._known.setdefault(site, _Known())
        answered = known.listed_s is not None and self._clock.monotonic() - known.listed_s <= self._fresh_s
        if not answered or known.trouble:
            self._wanted.add(site)
        if not answered and not known.trouble:
            return f"{site.host} is being asked"
        return known.trouble

    async def software(self, site: Site, arch: str) -> Software:
        """Asked for once an hour. Raises: ForgeError."""
        kept, now_s = self._software.get((site, arch)), self._clock.monotonic()
        if kept is None or now_s - kept[0] > _SOFTWARE_S:
            found = await self._forges.of(site).software(site, "linux", arch)
            kept = self._software[site, arch] = (now_s, found)
        return kept[1]

    def remember(self, sites: Collection[Site]) -> None:
        """Look at them for a while yet: a registration that nobody waits for any more may still take effect."""
        until_s = self._clock.monotonic() + self._policy.runners_linger_s
        self._until_s |= dict.fromkeys(sites, until_s)

    def turn(self, there: Collection[Site]) -> None:
        """Start the listings that are due, those first that have been for the longest, as far as their share goes."""
        self.remember(there)
        now_s = self._clock.monotonic()
        self._until_s = {site: until_s for site, until_s in self._until_s.items() if until_s > now_s}
        for _, _, site in sorted(self._due(now_s)):
            known = self._known[site]
            if not self._share.has(known.calls):
                break
            self._share.take(known.calls)
            known.asked_s = now_s
            self._wanted.discard(site)
            self._listing.start(site, self._list(site, known))

    def _due(self, now_s: float) -> Iterator[tuple[float, str, Site]]:
        """Since when, and which. A listing of several calls is worth its pause even where something was done."""
        known = {site: self._known.setdefault(site, _Known()) for site in self._until_s.keys() | self._wanted}
        call_s = self._policy.listing_call_s
        self._every_s = max(self._policy.runners_every_s, call_s * sum(one.calls for one in known.values()))
        for site, one in known.items():
            pause_s = self._every_s
            if site in self._wanted:
                pause_s = max(self._policy.retry_backoff_s, call_s * one.calls if one.calls > 1 else 0.0)
            at_s = -inf if one.asked_s is None else one.asked_s + pause_s
            if at_s <= now_s and site not in self._listing:
                yield at_s, site.url, site

    async def _list(self, site: Site, known: _Known) -> None:
        asked_at, expected = self._clock.now(), known.calls
        try:
            software = await self.software(site, _ARCH)
            dead = await self._refused_versions()
            found = await self._forges.of(site).runners(site)
        except ForgeError as error:
            self._share.take(-expected if isinstance(error, ForgeThrottled) else 0)
            await self._trouble(site, known, error.line)
            return
        calls = found.calls if isinstance(found, Counted) else 1
        self._share.take(calls - expected)
        known.calls = max(1, calls)
        known.offline = frozenset(name for name, one in known.runners.items() if not one.online)
        known.runners = {runner.name: runner for runner in found}
        known.listed_s, known.asked_at = self._clock.monotonic(), asked_at
        await self._trouble(site, known, await self._ending(site, known, software, dead))
        await self.ghosts.listed(site, found, known.offline)
        self._news()

    async def _trouble(self, site: Site, known: _Known, trouble: str) -> None:
        known.trouble = trouble
        if known.told == bool(trouble):
            return
        known.told = bool(trouble)
        what = "forge.trouble" if trouble else "forge.answers"
        await self._store.records.record(Event(what, self._clock.now(), trouble or str(site), data={"site": site.url}))
        self._news()

    async def refused(self, site: Site, told: object) -> None:
        """The forge did not take the program that a machine fetched, as its agent has `told`: nothing is made at that
        forge until there is another version. One that is not the one in use says nothing of that."""
        version = str(told.get("version", "")) if isinstance(told, Mapping) else ""
        used = {software.version for (of, _), (_, software) in self._software.items() if of.base == site.base}
        dead = await self._refused_versions()
        if not version or version not in (used or {version}) or (site.base, version) in dead:
            return
        dead.add((site.base, version))
        data = {"site": site.url, "base": site.base, "version": version}
        said = _said(site, version)
        await self._store.records.record(Event("forge.version_refused", self._clock.now(), said, data=data))
        for one, known in self._known.items():
            if one.base == site.base:
                await self._trouble(one, known, said)

    async def _refused_versions(self) -> set[tuple[str, str]]:
        """By the addresses of their forges; what happened before the controller's start counts."""
        if self._dead is None:
            before = await self._store.records.events(what="forge.version_refused")
            self._dead = {(str(event.data["base"]), str(event.data["version"])) for event in before}
        return self._dead

    async def _ending(self, site: Site, known: _Known, software: Software, dead: set[tuple[str, str]]) -> str:
        """A program that the forge will not take any more stops what would be made; that it soon will not is said."""
        known.ending = None
        if (site.base, software.version) in dead:
            return _said(site, software.version)
        now, at = self._clock.now(), software.refused_at
        if at is None or (at - now).total_seconds() > self._policy.runner_refused_soon_s:
            return ""
        said = ends(site.host, software)
        if at <= now:
            return said
        known.ending = software
        if known.warned_at is None or now - known.warned_at > timedelta(days=1):
            known.warned_at = now
            await self._store.records.record(Event("forge.version_ends", now, said, data={"site": site.url}))
        return ""

    async def close(self) -> None:
        await self._listing.close()


def ends(where: str, software: Software) -> str:
    """That a forge will refuse it, or does so already, and what to do about it."""
    said = f"{where} refuses {software.name} {software.version} from {software.refused_at:%Y-%m-%d} on"
    return f"{said}: name a newer one in the settings"


def _said(site: Site, version: str) -> str:
    return f"{site.host} refused the version {version} of its runner program: name a newer one in the settings"
