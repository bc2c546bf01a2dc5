"""Ghosts at forges are removed: by each listing of a site that we have runners at, and by `runner gc --repo`."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import structlog

from provisioner.domain.errors import ForgeError
from provisioner.domain.forge import Forges, Runner, Site
from provisioner.domain.ghosts import Haunted, Rows, ghosts
from provisioner.domain.ports import Clock
from provisioner.domain.store import Event, Store

_log = structlog.get_logger()
_OURS_FOR_SURE_S = 86400.0  # Source: reference "forges", 2.1.6: GitHub itself removes offline ones then


class GhostHunt:
    """The Ghosts port."""

    def __init__(self, store: Store, forges: Forges, clock: Clock) -> None:
        self._store = store
        self._forges = forges
        self._clock = clock

    async def listed(self, site: Site, listed: Iterable[Runner], seen: Collection[str]) -> None:
        """What is done with every listing of a site. One that no row knows may be another controller's: it has to be
        older than a machine becomes."""
        for runner in await self._of(listed, seen, _OURS_FOR_SURE_S):
            if why := await self._remove(site, runner):
                _log.warning("ghost.refused", runner=runner.name, error=why)

    async def look(self, site: Site, least_s: float, seen: Collection[str] | None) -> Haunted:
        found = await self._found(site, least_s, seen)
        return Haunted(tuple(runner.name for runner in found))

    async def remove(self, site: Site, least_s: float, seen: Collection[str]) -> Haunted:
        found = await self._found(site, least_s, seen)
        refused = {runner.name: why for runner in found if (why := await self._remove(site, runner))}
        names = tuple(runner.name for runner in found)
        return Haunted(names, tuple(name for name in names if name not in refused), refused)

    async def _found(self, site: Site, least_s: float, seen: Collection[str] | None) -> list[Runner]:
        listed = await self._forges.of(site).runners(site)
        return await self._of(listed, {one.name for one in listed} if seen is None else seen, least_s)

    async def _of(self, listed: Iterable[Runner], seen: Collection[str], least_s: float) -> list[Runner]:
        every = list(listed)
        offline = [one.name for one in every if not one.online and one.name in seen]
        if not offline:
            return []
        there = {row.name for row in await self._store.runners.there()}
        rows = Rows(there, await self._store.runners.known(offline))
        return ghosts(every, seen, rows, self._clock.now(), least_s)

    async def _remove(self, site: Site, runner: Runner) -> str:
        """Why it was not; "" when it is gone."""
        try:
            await self._forges.of(site).remove(site, runner.forge_id, runner.name)
        except ForgeError as error:
            return error.line
        now, data = self._clock.now(), {"runner": runner.name, "site": site.url}
        await self._store.records.record(Event("runner.collected", now, f"{runner.name}: no machine of it", data=data))
        return ""
