"""Clouds with one ability each, played by a test, and a store with one instance on them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from provisioner.domain.errors import Unreachable
from provisioner.domain.job import Attempt, Instance, InstancePhase, Job, JobPhase, JobSpec, Reason, Why
from provisioner.domain.leftover import Leftover, Remains
from provisioner.domain.offer import Market, Offer
from provisioner.domain.policy import Policy
from provisioner.domain.store import Event
from tests.fakes.simstore import SimStore
from tests.fakes.virtual import SimClock

OFFER = Offer(
    "sim",
    "north",
    "north-1",
    "g1",
    Market.SPOT,
    Decimal("0.36"),
    "t",
    "north",
    8,
    32.0,
    200.0,
    unbilled_if_taken_s=3600,
)
POLICY = Policy()


@dataclass
class Cloud:
    """All abilities at once. `fails`: errors raised by the next calls, whichever they are. `slow_s`: each takes so
    long."""

    text: str = ""
    taken: bool = False
    slow_s: float = 0.0
    fails: list[Exception] = field(default_factory=list)
    limits: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    left: list[Leftover] = field(default_factory=list)
    error: str | None = None
    in_use: bool = False
    calls: list[str] = field(default_factory=list)
    hard_limit: bool = True

    async def _work(self, what: str) -> None:
        self.calls.append(what)
        await asyncio.sleep(self.slow_s)
        if self.fails:
            raise self.fails.pop(0)

    async def console(self, machine_ref: str, name: str, scope: str) -> str:
        await self._work(f"console {machine_ref}")
        return self.text

    async def taken_back(self, machine_ref: str, name: str, scope: str) -> bool:
        await self._work(f"taken_back {machine_ref}")
        return self.taken

    async def limit(self, machine_ref: str, name: str, scope: str, at: datetime) -> None:
        await self._work(f"limit {name}")
        self.limits.setdefault(name, (machine_ref, at))

    async def lift(self, name: str, scope: str) -> None:
        await self._work(f"lift {name}")
        self.limits.pop(name, None)

    async def leftovers(self) -> list[Remains]:
        await self._work("leftovers")
        return [Remains("north", () if self.error else tuple(self.left), self.error)]

    async def remove(self, leftover: Leftover) -> None:
        await self._work(f"remove {leftover.key}")
        if self.in_use:
            raise Unreachable("DependencyViolation")
        self.left = [one for one in self.left if one.key != leftover.key]


@dataclass
class Scene:
    """A store, emptied, and the clock of the loop that runs."""

    store: SimStore
    clock: SimClock = field(default_factory=SimClock)

    def __post_init__(self) -> None:
        self.store.empty(1)

    @property
    def port(self) -> Any:
        return self.store.port

    async def instance(self, key: str = "i-1", why: Why = Why.NONE, *, ready: bool = False, **changes: Any) -> Instance:
        """BOOTING since now, or READY; in its row's reason what `why` says."""
        now = self.clock.now()
        planned = Instance(key, f"runner-{key}", "ada", InstancePhase.PLANNED, OFFER, now, now, planned_for="j-1")
        planned = replace(planned, **changes)
        instances = self.port.instances
        one = await instances.plan(
            planned, max_instances=9, max_usd_per_hour=Decimal(9), reserve_usd_per_hour=Decimal(0)
        )
        one = await instances.advance(one, InstancePhase.LAUNCHING, Reason(), now)
        to_booting = {"ref": f"m-{key}", "launched_at": now}
        one = await instances.advance(one, InstancePhase.BOOTING, Reason(why, "so"), now, **to_booting)
        if ready:
            one = await instances.advance(one, InstancePhase.READY, Reason(), now)
        assert isinstance(one, Instance)
        return one

    async def running(self, instance: Instance) -> Attempt:
        """A job's first attempt at work on it since now."""
        now = self.clock.now()
        job = await self.port.jobs.submit(Job("j-1", "ada", JobSpec(run="x"), JobPhase.QUEUED, now))
        attempt = await self.port.jobs.started(await self.port.jobs.assign(job, instance, now), now)
        assert isinstance(attempt, Attempt)
        return attempt

    async def told(self, *whats: str) -> list[Event]:
        return [event for event in await self.port.records.events() if event.what in whats]


def later(now: datetime, seconds: float) -> datetime:
    return now + timedelta(seconds=seconds)
