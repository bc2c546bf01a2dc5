"""A cloud in memory, with faults: the Provider port over virtual time.

What it refuses with are codes of EC2, taken for what `providers.aws.refusals` takes them: a zone without capacity stays
so for a while. Requests take time and take effect even when whoever sent them is gone; answers get lost after the
effect; machines show late; listings fail scope by scope; capacity, quota and rights run out; terminates are accepted
and not honoured for a while; spot machines are taken away with and without notice. `calm()` ends all faults but not
what they led to.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from decimal import Decimal

from provisioner.domain.errors import NoCapacity, QuotaExceeded, Unreachable
from provisioner.domain.gpu import Gpu
from provisioner.domain.handing import TAG
from provisioner.domain.job import Need
from provisioner.domain.offer import LaunchOrder, Listing, Machine, MachineState, Market, Offer
from provisioner.domain.ports import Clock
from provisioner.providers.aws.refusals import quota_pool, refusal

_TOLD_S = 60.0  # how long a machine that is over is still told of, where the cloud tells
PRICES = {Market.SPOT: Decimal("0.40"), Market.ON_DEMAND: Decimal("1.20")}
THROTTLED = "RequestLimitExceeded"
# What a launch may be refused with, by the fault's name.
_REFUSALS = {
    "no_capacity": "InsufficientInstanceCapacity",
    "quota": "VcpuLimitExceeded",
    "rejected": "InvalidParameterValue",
    "unauthorized": "UnauthorizedOperation",
}


@dataclass(frozen=True)
class Faults:
    """Chances, each between 0 and 1, drawn anew at every call."""

    unreachable: float = 0.05
    answer_lost: float = 0.08
    throttled: float = 0.04
    no_capacity: float = 0.12
    quota: float = 0.03
    rejected: float = 0.01
    unauthorized: float = 0.01
    listing_error: float = 0.08
    late_launch: float = 0.03  # takes effect long after L2 would have it
    deaf_terminate: float = 0.1
    no_offers: float = 0.03
    preempted: float = 0.25
    preempted_silently: float = 0.15
    short_listing: float = 0.0  # breaks L3

    @staticmethod
    def none() -> Faults:
        return Faults(**{f.name: 0.0 for f in fields(Faults)})


@dataclass
class SimMachine:
    """One machine. `late`: it came after everybody had reason to believe that it never would."""

    ref: str
    order: LaunchOrder
    created_at: datetime
    created_s: float
    shown_after_s: float
    state: MachineState = MachineState.PENDING
    deaf_until_s: float = 0.0
    late: bool = False
    notice: str = ""
    on_end: list[Callable[[], None]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.order.name

    @property
    def alive(self) -> bool:
        return self.state in (MachineState.PENDING, MachineState.RUNNING)


class SimCloud:
    """`booted` is called with each machine as it comes to run; `ending` with each that a terminate is about to end.
    `tells_ended`: listings name for a while what is over, as EC2's do.
    `remembered`: scopes and codes of refusals that whoever launches may remember. `apart` False: being throttled is
    told as a lack of capacity."""

    name = "sim"

    def __init__(
        self,
        clock: Clock,
        rng: random.Random,
        *,
        faults: Faults | None = None,
        visibility_s: float = 15.0,
        idempotent: bool = True,
        apart: bool = True,
        regions: Sequence[str] = ("north", "south"),
        tells_ended: bool = False,
    ) -> None:
        self._clock = clock
        self._rng = rng
        self.faults = faults if faults is not None else Faults()
        self.visibility_s = visibility_s
        self._idempotent = idempotent
        self._apart = apart
        self._regions = tuple(regions)
        self._tells_ended = tells_ended
        self._over: dict[str, tuple[str, float]] = {}
        self.there: list[SimMachine] = []
        self.launched: dict[str, list[SimMachine]] = {}
        self.refused: dict[str, str] = {}
        self.remembered: set[tuple[str, str]] = set()
        self._dry_until_s: dict[str, float] = {}
        self.booted: Callable[[SimMachine], None] = lambda machine: None
        self.ending: Callable[[SimMachine], None] = lambda machine: None
        self.calls = 0
        self._refs = 0

    def calm(self) -> None:
        self.faults = Faults.none()

    async def offers(self, need: Need) -> Sequence[Offer]:
        if self._chance("no_offers"):
            raise Unreachable("the price list cannot be reached")
        offers = [self.offer(region, market) for region in self._regions for market in Market]
        dear = replace(offers[-1], instance_type="g8", usd_per_hour=Decimal(5), gpu=Gpu("A100", 8, 40.0))
        return [*offers, dear]

    def offer(self, region: str, market: Market) -> Offer:
        return Offer(
            provider=self.name,
            region=region,
            zone=f"{region}-1",
            instance_type="g1",
            market=market,
            usd_per_hour=PRICES[market],
            price_source="simulated",
            scope=region,
            cpus=8,
            memory_gib=32.0,
            disk_gib=200.0,
            gpu=Gpu("T4", 1, 16.0),
            pools=(quota_pool(region, "g1", market),),
        )

    async def launch(self, order: LaunchOrder) -> Machine:
        self.calls += 1
        await self._travel(order.offer)
        self._refuse(order.offer, order.name)
        late = self._chance("late_launch")
        delay_s = self._rng.uniform(20.0, 60.0) if late else self._rng.expovariate(1.0) % 5
        effect: asyncio.Future[Machine] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(delay_s, self._create, order, late, effect)
        if late or self._chance("answer_lost"):
            await self._clock.sleep(self._rng.uniform(0.0, 8.0))
            raise Unreachable("the answer to the launch was lost")
        return await asyncio.shield(effect)

    def _refuse(self, offer: Offer, name: str) -> None:
        now_s = self._clock.monotonic()
        for fault, code in _REFUSALS.items():
            dry = fault == "no_capacity" and now_s < self._dry_until_s.get(offer.key, 0.0)
            if not dry and not self._chance(fault):
                continue
            if fault == "no_capacity" and not dry:
                self._dry_until_s[offer.key] = now_s + self._rng.uniform(0.0, 40.0)
            error = refusal(code, "simulated", offer)
            self.refused[name] = type(error).__name__
            if isinstance(error, NoCapacity | QuotaExceeded):
                self.remembered.add((error.scope, code))
            raise error

    def _create(self, order: LaunchOrder, late: bool, effect: asyncio.Future[Machine]) -> None:
        before = self.launched.setdefault(order.name, [])
        if before and self._idempotent:
            machine = before[0]
        else:
            self._refs += 1
            shown_after_s = self._rng.uniform(0.0, max(0.0, self.visibility_s - 6.0))
            now_s = self._clock.monotonic()
            machine = SimMachine(f"m-{self._refs}", order, self._clock.now(), now_s, shown_after_s, late=late)
            before.append(machine)
            self.there.append(machine)
            asyncio.get_running_loop().call_later(self._rng.uniform(0.5, 10.0), self._boot, machine)
        if not effect.done():
            effect.set_result(self._shown(machine))

    def _boot(self, machine: SimMachine) -> None:
        if machine.state is not MachineState.PENDING:
            return
        machine.state = MachineState.RUNNING
        self.booted(machine)
        loop = asyncio.get_running_loop()
        if machine.order.offer.market is Market.SPOT:
            if self._chance("preempted"):
                loop.call_later(self._rng.uniform(5.0, 120.0), self._announce, machine)
            elif self._chance("preempted_silently"):
                loop.call_later(self._rng.uniform(5.0, 120.0), self.end, machine)

    def _announce(self, machine: SimMachine) -> None:
        if machine.alive:
            machine.notice = "the cloud takes it back in 30 s"
            asyncio.get_running_loop().call_later(30.0, self.end, machine)

    async def machines(self) -> Sequence[Listing]:
        await self._travel()
        now_s, taken_at = self._clock.monotonic(), self._clock.now()
        listings = []
        for region in self._regions:
            if self._chance("listing_error"):
                listings.append(Listing(region, taken_at, error="simulated"))
                continue
            here = [m for m in self.there if m.order.offer.scope == region and self._shows(m, now_s)]
            if here and self._chance("short_listing"):
                here = self._rng.sample(here, len(here) - 1)
            over = {name for name, (where, until_s) in self._over.items() if where == region and now_s < until_s}
            ended = frozenset(over - {machine.name for machine in here})
            listings.append(Listing(region, taken_at, tuple(self._shown(m) for m in here), ended=ended))
        return listings

    def _shows(self, machine: SimMachine, now_s: float) -> bool:
        """Late, and in and out of sight until `visibility_s` is over."""
        age_s = now_s - machine.created_s
        if age_s >= self.visibility_s - 6.0:
            return True
        return age_s >= machine.shown_after_s and self._rng.random() < 0.8

    async def terminate(self, machine_ref: str, name: str, scope: str) -> None:
        await self._travel()
        loop = asyncio.get_running_loop()
        found = [m for m in self.there if m.name == name and (not machine_ref or m.ref == machine_ref)]
        now_s = self._clock.monotonic()
        for machine in found:
            if now_s >= machine.deaf_until_s and self._chance("deaf_terminate"):
                machine.deaf_until_s = now_s + self._rng.uniform(5.0, 60.0)
            if now_s >= machine.deaf_until_s:
                loop.call_later(self._rng.uniform(0.0, 2.0), self._terminated, machine)
        if self._chance("answer_lost"):
            raise Unreachable("the answer to the terminate was lost")

    async def hand_over(self, machine_ref: str, name: str, scope: str) -> None:
        await self._travel()
        found = [one for one in self.alive(name) if not machine_ref or one.ref == machine_ref]
        if not found:
            raise Unreachable(f"{name} is not there")
        for machine in found:
            machine.order = replace(machine.order, tags={**machine.order.tags, TAG: "2026-11-21"})

    def _terminated(self, machine: SimMachine) -> None:
        if machine.alive:
            self.ending(machine)
            self.end(machine)

    def end(self, machine: SimMachine) -> None:
        """It stops at once and is still listed for a while."""
        if not machine.alive:
            return
        machine.state = MachineState.STOPPING
        for call in machine.on_end:
            call()
        asyncio.get_running_loop().call_later(self._rng.uniform(0.0, 10.0), self._left, machine)

    def _left(self, machine: SimMachine) -> None:
        self.there.remove(machine)
        if self._tells_ended:
            self._over[machine.name] = machine.order.offer.scope, self._clock.monotonic() + _TOLD_S

    def alive(self, name: str) -> list[SimMachine]:
        return [machine for machine in self.there if machine.name == name and machine.alive]

    async def _travel(self, offer: Offer | None = None) -> None:
        await self._clock.sleep(self._rng.uniform(0.01, 0.4))
        if self._chance("unreachable"):
            raise Unreachable("simulated")
        if self._chance("throttled"):
            error = refusal(THROTTLED, "simulated", offer)
            raise error if self._apart or offer is None else NoCapacity(error.message, scope=error.scope)

    def _chance(self, fault: str) -> bool:
        chance: float = getattr(self.faults, fault)
        return chance > 0 and self._rng.random() < chance

    @staticmethod
    def _shown(machine: SimMachine) -> Machine:
        order = machine.order
        return Machine(
            ref=machine.ref,
            name=order.name,
            controller=order.controller,
            scope=order.offer.scope,
            state=machine.state,
            launched_at=machine.created_at,
            tags={"owner": order.owner, "expires-at": order.expires_at.isoformat(), **order.tags},
        )
