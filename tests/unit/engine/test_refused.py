"""What the cloud said no to is remembered, in words that say what to do, and the next machine is another one."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

from provisioner.domain.errors import QuotaExceeded
from provisioner.domain.job import Job, JobPhase, JobSpec
from provisioner.domain.offer import LaunchOrder, Machine
from tests.fakes.an_engine import an_engine
from tests.fakes.simcloud import Faults, SimCloud
from tests.fakes.simstore import SimStore
from tests.fakes.virtual import SimClock, run_virtually


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
