"""Jobs that runners of ours were heard to have begun, until the forge has told of it too.

Between the two such a job still counts as waiting, and one machine too many would be rented for it. It is forgotten
when a webhook names the runner, or when two complete polls have begun since, after which the rows are right by
themselves: a guess may delay a runner by that long and no longer.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from provisioner.domain.pools import Taken
from provisioner.domain.ports import Clock
from provisioner.domain.store import Store

from .polls import Polls

_LONGEST = timedelta(minutes=10)  # arbitrary: without any poll


class Takings:
    def __init__(self, store: Store, polls: Polls, clock: Clock) -> None:
        self._store = store
        self._polls = polls
        self._clock = clock
        self._open: dict[str, Taken] = {}
        self._settled: set[str] = set()

    async def still(self, heard: Iterable[Taken]) -> list[Taken]:
        """Those, of these and of before, that the forge has not told of yet."""
        now = self._clock.now()
        heard = list(heard)
        names = {one.runner for one in heard}
        for one in heard:
            if one.runner not in self._settled:
                self._note(one)
        told = await self._store.ci_jobs.begun_by(self._open.keys()) if self._open else {}
        for name, one in list(self._open.items()):
            if name in told or now - one.at > _LONGEST or self._polls.twice_since(one.site, one.at):
                del self._open[name]
                self._settled.add(name)
        self._settled &= names
        return list(self._open.values())

    def _note(self, one: Taken) -> None:
        """That it has a job can be seen a moment before its hook says which."""
        known = self._open.get(one.runner)
        if known is None or (one.run and not known.run):
            self._open[one.runner] = one
