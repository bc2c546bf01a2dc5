"""A desk without an engine: what was heard is kept, what is wanted is what the test said."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field, replace
from datetime import datetime

from provisioner.domain.facts import Report
from provisioner.domain.job import Need
from provisioner.domain.place import Ladder
from provisioner.domain.ports import Wanted


@dataclass
class FakeDesk:
    """`want` is how a test plays the engine."""

    ladder_now: Ladder = field(default_factory=lambda: Ladder(()))
    last_pass_at: datetime | None = None
    reports: dict[str, list[Report]] = field(default_factory=dict)
    pokes: int = 0
    asked: int = 0

    def __post_init__(self) -> None:
        self._wanted: dict[str, Wanted] = {}
        self._changed: dict[str, asyncio.Event] = {}

    def want(self, instance_id: str, wanted: Wanted) -> None:
        """From now on; the version is counted here."""
        before = self._wanted.get(instance_id, Wanted(1))
        self._wanted[instance_id] = replace(wanted, version=before.version + 1)
        if changed := self._changed.pop(instance_id, None):
            changed.set()

    def poke(self) -> None:
        self.pokes += 1

    def heard(self, instance_id: str, report: Report) -> None:
        self.reports.setdefault(instance_id, []).append(report)

    async def wanted(self, instance_id: str) -> Wanted:
        self.asked += 1
        return self._wanted.get(instance_id, Wanted(1))

    async def wait(self, instance_id: str, seen: int, timeout_s: float) -> None:
        if (await self.wanted(instance_id)).version != seen:
            return
        changed = self._changed.setdefault(instance_id, asyncio.Event())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(changed.wait(), timeout_s)

    async def ladder(self, need: Need, *, force_on_demand: bool = False) -> Ladder:
        return self.ladder_now
