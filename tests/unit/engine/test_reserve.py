"""What a plan reserves is what its launch asks for: the ceiling where the cap leaves room, else the known price."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from decimal import Decimal

from provisioner.domain.abilities import Abilities
from provisioner.domain.job import Job, JobPhase, JobSpec, Need
from provisioner.domain.offer import LaunchOrder, Machine, Market, Offer
from provisioner.domain.place import Quota
from provisioner.domain.policy import Policy
from tests.fakes.an_engine import an_engine
from tests.fakes.simcloud import PRICES, Faults, SimCloud
from tests.fakes.simstore import SimStore
from tests.fakes.virtual import SimClock, run_virtually


class Cloud(SimCloud):
    """Its spot offers say what on-demand costs, and share a pool."""

    limits: tuple[Quota, ...] = ()
    ceilings: list[Decimal | None]

    def offer(self, region: str, market: Market) -> Offer:
        made = super().offer(region, market)
        pooled = replace(made, pools=(f"sim/{region}",))
        on_demand = PRICES[Market.ON_DEMAND]
        return replace(pooled, on_demand_usd_per_hour=on_demand) if market is Market.SPOT else pooled

    async def launch(self, order: LaunchOrder) -> Machine:
        self.ceilings.append(order.ceiling_usd_per_hour)
        return await super().launch(order)

    def quotas(self) -> tuple[Quota, ...]:
        return self.limits


def ceilings(
    jobs: int, cap: str, need: Need | None = None, limits: tuple[Quota, ...] = ()
) -> tuple[list[str], list[str]]:
    """What was asked for at most at each launch, and what each job says that still waits."""
    store = SimStore()

    async def main() -> tuple[list[str], list[str]]:
        clock = SimClock()
        cloud = Cloud(clock, random.Random(3), faults=Faults.none())
        cloud.ceilings, cloud.limits = [], limits
        store.empty(1)
        engine = an_engine(
            store.port,
            clock,
            {"sim": cloud},
            policy=replace(Policy(), max_usd_per_hour=Decimal(cap)),
            abilities=Abilities(quotas={"sim": cloud}),
        )
        loop = asyncio.create_task(engine.run())
        for n in range(jobs):
            spec = JobSpec(run="true", need=need or Need())
            await store.port.jobs.submit(Job(f"j-{n}", "ada", spec, JobPhase.QUEUED, clock.now()))
            await clock.sleep(20)
        loop.cancel()
        waiting = await store.port.jobs.waiting()
        rows = await store.port.instances.find()
        asked = sorted(str(one) for one in cloud.ceilings)
        assert asked == sorted(str(row.reserved_usd_per_hour) for row in rows)
        covered = {row.planned_for for row in rows}
        return asked, [str(job.reason) for job in waiting if job.id not in covered]

    return run_virtually(main())


def test_a_spot_request_may_cost_as_much_as_on_demand() -> None:
    assert ceilings(2, "10") == (["1.20", "1.20"], [])


def test_where_the_cap_leaves_less_room_it_asks_for_the_price_as_it_is_known() -> None:
    asked, (waits,) = ceilings(4, "2.10")
    assert asked == ["0.40", "0.40", "1.20"]
    assert waits.startswith("budget: $2.00/h is reserved")


def test_the_job_may_allow_less() -> None:
    assert ceilings(1, "10", Need(max_price=Decimal("0.90"))) == (["0.90"], [])


def test_quotas_are_heeded_with_what_already_runs() -> None:
    """Machines of eight vCPUs: one fits in each region, and the third job is told what is full."""
    limits = tuple(Quota(f"sim/{region}", 8.0, f"the quota of {region} is 8") for region in ("north", "south"))
    asked, (waits,) = ceilings(3, "10", limits=limits)
    assert asked == ["1.20", "1.20"]
    assert "machines of ours have 8 vCPUs, this needs 8, and the quota of north is 8" in waits
