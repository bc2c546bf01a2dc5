"""What is left of a host that never comes back: its row waits for ever, until somebody gives the host up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from provisioner.domain.errors import Unreachable
from provisioner.domain.job import Instance, InstancePhase, Job, JobPhase, Need, Reason, Why
from provisioner.domain.offer import Listing, Offer
from tests.fakes.an_engine import an_engine
from tests.fakes.simcloud import Faults, SimCloud
from tests.fakes.simstore import SimStore
from tests.fakes.virtual import run_virtually

from .abilities import Scene

ANN = "ann has given it up"


class Dead(SimCloud):
    """Nobody answers there; what is said of it instead is `given_up`."""

    given_up = ""

    async def machines(self) -> Sequence[Listing]:
        silent = {"given_up": self.given_up} if self.given_up else {"error": "no answer"}
        return [Listing("north", self._clock.now(), **silent)]  # type: ignore[arg-type]

    async def offers(self, need: Need) -> Sequence[Offer]:
        raise Unreachable("no answer")

    async def terminate(self, machine_ref: str, name: str, scope: str) -> None:
        raise Unreachable("no answer")


@dataclass
class Seen:
    before: Instance
    after: Instance
    job: Job
    charged_until_s: list[float]


def seen(store: SimStore, *, give_up: bool) -> Seen:
    """A machine at work whose host falls silent, five minutes later and half a minute after that."""

    async def main() -> Seen:
        scene = Scene(store)
        clock, port = scene.clock, scene.port
        cloud = Dead(clock, random.Random(3), faults=Faults.none())
        instance = await scene.instance(ready=True)
        await scene.running(instance)
        engine = an_engine(port, clock, {"sim": cloud})
        loop = asyncio.create_task(engine.run())
        await clock.sleep(300)
        before = await port.instances.get(instance.id)
        if give_up:
            cloud.given_up = ANN
            engine.resume("sim")
        await clock.sleep(30)
        loop.cancel()
        ends = [row.closed_at for row in await port.records.charges(instance_id=instance.id)]
        return Seen(
            before,
            await port.instances.get(instance.id),
            await port.jobs.get("j-1"),
            [clock.monotonic() - (clock.now() - at).total_seconds() for at in ends if at is not None],
        )

    return run_virtually(main())


@pytest.fixture(scope="module")
def store() -> SimStore:
    return SimStore()


def test_a_row_is_closed_once_its_host_was_given_up(store: SimStore) -> None:
    """Its bill ends then, and its job goes back to the queue: whoever gives a host up says that nothing runs there."""
    told = seen(store, give_up=True)
    assert (told.before.phase, told.job.phase) == (InstancePhase.STOPPING, JobPhase.QUEUED)
    assert (told.after.phase, told.after.reason) == (InstancePhase.GONE, Reason(Why.GIVEN_UP, ANN))
    assert 300 <= max(told.charged_until_s) < 305


def test_until_then_it_waits(store: SimStore) -> None:
    told = seen(store, give_up=False)
    assert (told.after.phase, told.job.phase) == (InstancePhase.STOPPING, JobPhase.RUNNING)
