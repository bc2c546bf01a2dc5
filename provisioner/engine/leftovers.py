"""What machines left behind is collected under the brakes of the machines' own collector (invariant 9).

Only complete listings count; a thing must be past a minimum age, seen twice, and carry this controller's id, or be past
its own `expires-at`; a pass removes at most a share. What is for all machines of a scope goes once none of ours has
been there for a day. A cloud is asked seldom and beside the passes, which do not wait for it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from provisioner.domain.abilities import HasLeftovers
from provisioner.domain.errors import ProviderError
from provisioner.domain.job import Instance, InstancePhase
from provisioner.domain.leftover import Leftover
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock
from provisioner.domain.store import Event, Store

from .collect import past

_log = structlog.get_logger()
_NEWEST = 1000  # arbitrary: rows by which a scope is known to have been used lately


@dataclass(frozen=True, slots=True)
class Found:
    provider: str
    leftover: Leftover
    why: str


@dataclass(frozen=True, slots=True)
class Known:
    """What is known when a scope's leftovers are judged: rows by machine's name, scopes used within the last day, the
    keys seen in the listing before, and for how many seconds each has been in every one."""

    rows: Mapping[str, Instance]
    used: frozenset[tuple[str, str]]
    before: frozenset[str]
    seen_for_s: Mapping[str, float]


def unwanted(
    provider: str, left: Iterable[Leftover], known: Known, controller: str, now: datetime, policy: Policy
) -> list[Found]:
    """Those to remove: pure. What belongs to a live row is that row's business, whatever its tags say."""
    found = []
    for one in left:
        row = known.rows.get(one.name)
        if row is not None and row.phase is not InstancePhase.GONE:
            continue
        ours = one.controller == controller and one.key in known.before and _old(one, row, known, now, policy)
        if past(one.tags, now):
            found.append(Found(provider, one, "past its expires-at"))
        elif ours and not one.name and (provider, one.scope) not in known.used:
            found.append(Found(provider, one, "no machine of ours has been there for a day"))
        elif ours and one.name:
            found.append(Found(provider, one, "no row knows its machine" if row is None else "its machine is gone"))
    return found


def _old(one: Leftover, row: Instance | None, known: Known, now: datetime, policy: Policy) -> bool:
    """The cloud's word, or the row's, or ours: whichever there is."""
    least = timedelta(seconds=policy.collect_min_age_s)
    times = [at for at in (one.made_at, row.gone_at if row else None) if at is not None]
    return any(now - at > least for at in times) or known.seen_for_s.get(one.key, 0.0) > least.total_seconds()


class Leftovers:
    """`turn` starts a look when one is due; `collect_now` is for `runner gc`."""

    def __init__(self, store: Store, clouds: Mapping[str, HasLeftovers], clock: Clock, policy: Policy) -> None:
        self._store = store
        self._clouds = clouds
        self._clock = clock
        self._policy = policy
        self._listed: dict[tuple[str, str], tuple[Leftover, ...]] = {}
        self._before: dict[tuple[str, str], frozenset[str]] = {}
        self._first_s: dict[tuple[str, str], dict[str, float]] = {}
        self._looked_s = clock.monotonic()
        self._looking: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    def turn(self) -> None:
        now_s = self._clock.monotonic()
        looking = self._looking is not None and not self._looking.done()
        if not self._clouds or looking or now_s - self._looked_s < self._policy.leftovers_every_s:
            return
        self._looked_s = now_s
        self._looking = asyncio.create_task(self._look(), name="leftovers")

    async def _look(self) -> None:
        try:
            async with self._turn:
                await self._refresh()
                await self._collect()
        except Exception as error:  # it is tried again; the passes go on
            _log.error("leftovers.stumbled", error=repr(error), exc_info=error)

    async def collect_now(self, *, dry_run: bool = False, expired_only: bool = False) -> tuple[list[str], list[str]]:
        """Keys found and keys removed: listed twice anew, and no share."""
        async with self._turn:
            for _ in range(2 if self._clouds else 0):
                await self._refresh()
            return await self._collect(all_at_once=True, dry_run=dry_run, expired_only=expired_only)

    async def _refresh(self) -> None:
        now_s = self._clock.monotonic()
        for provider, cloud in self._clouds.items():
            try:
                remains = await cloud.leftovers()
            except ProviderError as error:
                _log.warning("provider.no_leftovers", provider=provider, error=error.message)
                continue
            for one in remains:
                if one.complete:
                    self._take((provider, one.scope), one.found, now_s)
                else:
                    _log.warning("provider.no_leftovers", provider=provider, scope=one.scope, error=one.error)

    def _take(self, key: tuple[str, str], found: tuple[Leftover, ...], now_s: float) -> None:
        self._before[key] = frozenset(one.key for one in self._listed.get(key, ()))
        first_s = self._first_s.get(key, {})
        self._first_s[key] = {one.key: first_s.get(one.key, now_s) for one in found}
        self._listed[key] = found

    async def _collect(
        self, *, all_at_once: bool = False, dry_run: bool = False, expired_only: bool = False
    ) -> tuple[list[str], list[str]]:
        found = [one for one in await self._found() if not expired_only or past(one.leftover.tags, self._clock.now())]
        count = sum(len(left) for left in self._listed.values())
        allowed = len(found) if all_at_once else max(1, math.floor(count * self._policy.collect_share))
        removed = [one.leftover.key for one in ([] if dry_run else found[:allowed]) if await self._remove(one)]
        return [one.leftover.key for one in found], removed

    async def _found(self) -> list[Found]:
        now_s, now = self._clock.monotonic(), self._clock.now()
        found: list[Found] = []
        if not any(self._listed.values()):
            return found
        controller, used = await self._store.records.controller_id(), await self._used(now)
        for (provider, scope), left in self._listed.items():
            rows = await self._store.instances.by_name([one.name for one in left if one.name])
            seen_for_s = {key: now_s - first_s for key, first_s in self._first_s[provider, scope].items()}
            known = Known(rows, used, self._before[provider, scope], seen_for_s)
            found += unwanted(provider, left, known, controller, now, self._policy)
        return found

    async def _used(self, now: datetime) -> frozenset[tuple[str, str]]:
        """Scopes in which there is a machine of ours, or was within the last day."""
        since = now - timedelta(seconds=self._policy.unused_group_s)
        rows = await self._store.instances.find(phases=tuple(InstancePhase), limit=_NEWEST)
        used = [row for row in rows if row.gone_at is None or row.gone_at > since]
        return frozenset((row.offer.provider, row.offer.scope) for row in used)

    async def _remove(self, found: Found) -> bool:
        one = found.leftover
        try:
            await self._clouds[found.provider].remove(one)
        except ProviderError as error:
            _log.warning("leftover.refused", leftover=one.key, error=error.message)
            return False
        key = found.provider, one.scope
        self._listed[key] = tuple(other for other in self._listed[key] if other.key != one.key)
        what, now = f"{one.key}: {found.why}", self._clock.now()
        await self._store.records.record(Event("leftover.collected", now, what, data={"name": one.name}))
        return True

    async def close(self) -> None:
        """End a look that is under way."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
