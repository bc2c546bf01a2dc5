"""What the cloud said no to is remembered, in words that say what to do, and the next machine is another one."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

from provisioner.domain.errors import NoCapacity, QuotaExceeded
from provisioner.domain.job import Job, JobPhase, JobSpec
from provisioner.domain.offer import LaunchOrder, Machine
from provisioner.domain.policy import Policy
from provisioner.engine.market import Marketplace
from tests.fakes.an_engine import an_engine
from tests.fakes.simcloud import Faults, SimCloud
from tests.fakes.simstore import SimStore
from tests.fakes.virtual import SimClock, run_virtually

from .abilities import Scene


class Stillborn(SimCloud):
    """A spot machine ends as it is launched."""

    async def launch(self, order: LaunchOrder) -> Machine:
        self.asked.append(order.offer.key)
        machine = await super().launch(order)
        if order.offer.market == "spot":
            self.end(self.launched[order.name][0])
        return replace(machine)


class Full(SimCloud):
    """The quota of everything is used up."""

    async def launch(self, order: LaunchOrder) -> Machine:
        self.asked.append(order.offer.key)
        raise QuotaExceeded("VcpuLimitExceeded", hint="ask for more at Service Quotas", scope="sim")


def served(kind: type[SimCloud]) -> tuple[list[str], list[str]]:
    """What one job had launched for it in a minute, and what is then remembered."""
    store = SimStore()

    async def main() -> tuple[list[str], list[str]]:
        clock = SimClock()
        cloud = kind(clock, random.Random(3), faults=Faults.none(), tells_ended=True)
        cloud.asked = []  # type: ignore[attr-defined]
        store.empty(1)
        await store.port.jobs.submit(Job("j-1", "ada", JobSpec(run="true"), JobPhase.QUEUED, clock.now()))
        engine = an_engine(store.port, clock, {"sim": cloud})
        loop = asyncio.create_task(engine.run())
        await clock.sleep(60)
        loop.cancel()
        remembered = await store.port.records.refusals(clock.now())
        return cloud.asked, [refusal.why for refusal in remembered]  # type: ignore[attr-defined]

    return run_virtually(main())


def test_an_offer_whose_machine_ended_as_it_was_launched_is_not_tried_again_at_once() -> None:
    asked, remembered = served(Stillborn)
    assert asked == ["sim/north-1/g1/spot", "sim/south-1/g1/spot", "sim/north-1/g1/on-demand"]
    assert len(remembered) == 2


def test_what_is_remembered_says_what_to_do() -> None:
    asked, remembered = served(Full)
    assert len(asked) == 1
    assert remembered == ["VcpuLimitExceeded; ask for more at Service Quotas"]


def test_what_is_refused_together_is_no_repetition() -> None:
    """Machines that were under way already do not make it be avoided for longer; one that is launched later does."""
    store = SimStore()

    async def main() -> None:
        scene, scope = Scene(store), "sim/north-1/g1/spot"
        clock = scene.clock
        market, instance = Marketplace({}, store.port, clock, Policy(), ()), await scene.instance()

        async def left_s() -> tuple[float, int]:
            for _ in range(5):
                await market.refused(instance, NoCapacity("none left", scope=scope, cooldown_s=60.0))
            (found,) = await store.port.records.refusals(clock.now())
            return (found.until - clock.now()).total_seconds(), found.times

        assert await left_s() == (60.0, 1)
        await clock.sleep(61)
        assert await left_s() == (120.0, 2)

    run_virtually(main())
