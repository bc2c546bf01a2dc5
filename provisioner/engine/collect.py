"""The net under everything else: machines that no row wants are ended, with brakes (invariant 9).

Only complete listings count; a machine must be past a minimum age and seen twice, and a pass ends at most a share of
all machines, so that a restored or empty database cannot kill a fleet. The cloud's word for when a machine was launched
cannot be relied on, since our clock may be wrong: one that we have been seeing for long enough is old as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from provisioner.domain.errors import ProviderError
from provisioner.domain.handing import left_alone
from provisioner.domain.job import Instance, InstancePhase
from provisioner.domain.offer import Machine
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock, Provider
from provisioner.domain.store import Event, Store

from .observe import Observed

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Orphan:
    provider: str
    machine: Machine
    why: str


def orphans(
    provider: str,
    machines: Iterable[Machine],
    seen_before: frozenset[str],
    seen_for_s: Mapping[str, float],
    rows: Mapping[str, Instance],
    controller: str,
    now: datetime,
    policy: Policy,
) -> list[Orphan]:
    """Machines that nobody wants: pure. One with a live row is that row's business, whatever its tags say; one that was
    handed over is its own, until it is overdue."""
    found = []
    for machine in machines:
        row = rows.get(machine.name)
        if row is not None and row.phase is not InstancePhase.GONE:
            continue
        least_s = policy.collect_min_age_s
        old = now - machine.launched_at > timedelta(seconds=least_s) or seen_for_s.get(machine.name, 0.0) > least_s
        if expired(machine, now):
            found.append(Orphan(provider, machine, "past its expires-at"))
        elif left_alone(machine.tags):
            continue
        elif machine.controller == controller and old and machine.name in seen_before:
            found.append(Orphan(provider, machine, "no row knows it" if row is None else "its row is gone"))
    return found


def expired(machine: Machine, now: datetime) -> bool:
    """Past the date on its own tag, whoever launched it: for those who have no database to ask."""
    return past(machine.tags, now)


def past(tags: Mapping[str, str], now: datetime) -> bool:
    """Whether the `expires-at` among them is over. One that cannot be read is not."""
    at = tags.get("expires-at", "")
    try:
        return bool(at) and datetime.fromisoformat(at) < now
    except (ValueError, TypeError):
        return False


class Collector:
    """`collect` ends orphans; `all_at_once` lifts the share."""

    def __init__(
        self, store: Store, providers: Mapping[str, Provider], clock: Clock, policy: Policy, observed: Observed
    ) -> None:
        self._store = store
        self._providers = providers
        self._clock = clock
        self._policy = policy
        self._observed = observed

    async def find(self, *, expired_only: bool = False) -> tuple[list[Orphan], int]:
        """The orphans, and how many machines there are in all."""
        now, controller = self._clock.now(), await self._store.records.controller_id()
        found: list[Orphan] = []
        count = 0
        for (provider, scope), listing in self._observed.listings.items():
            if not listing.machines:
                continue
            count += len(listing.machines)
            rows = await self._store.instances.by_name([machine.name for machine in listing.machines])
            before, seen_for_s = self._observed.previous[provider, scope], self._observed.seen_for_s(provider, scope)
            found += orphans(provider, listing.machines, before, seen_for_s, rows, controller, now, self._policy)
        return [o for o in found if not expired_only or expired(o.machine, now)], count

    async def collect(
        self, *, all_at_once: bool = False, dry_run: bool = False, expired_only: bool = False
    ) -> tuple[list[str], list[str]]:
        """Names found and names ended."""
        found, count = await self.find(expired_only=expired_only)
        allowed = len(found) if all_at_once else max(1, math.floor(count * self._policy.collect_share))
        ended = []
        for orphan in [] if dry_run else found[:allowed]:
            if await self._end(orphan):
                ended.append(orphan.machine.name)
        if len(found) > allowed and not dry_run:
            _log.warning("collector.braked", found=len(found), ended=len(ended), machines=count)
        return [orphan.machine.name for orphan in found], ended

    async def _end(self, orphan: Orphan) -> bool:
        machine = orphan.machine
        try:
            await self._providers[orphan.provider].terminate(machine.ref, machine.name, machine.scope)
        except ProviderError as error:
            _log.warning("collector.refused", machine=machine.name, error=error.message)
            return False
        self._observed.want(orphan.provider)
        now = self._clock.now()
        await self._store.records.record(Event("machine.collected", now, orphan.why, data={"name": machine.name}))
        return True
