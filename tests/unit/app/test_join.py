"""A join token ends with the boot of its machine, however long the launch had to wait for its turn."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from provisioner.app.join import Joining, limits_of_step
from provisioner.domain.errors import Forbidden
from provisioner.domain.job import Instance, InstancePhase, Job, JobPhase, JobSpec, RunnerSpec
from provisioner.domain.offer import LaunchOrder, Machine, Market
from provisioner.domain.policy import Policy
from tests.fakes.an_engine import an_engine
from tests.fakes.simcloud import Faults, SimCloud
from tests.fakes.simstore import SimStore
from tests.fakes.virtual import SimClock, run_virtually

POLICY = Policy()
TURN_S = 1500.0  # three thousand launches in one region


class Busy(SimCloud):
    """A launch waits for its turn."""

    name = "aws"
    orders: list[LaunchOrder]

    async def launch(self, order: LaunchOrder) -> Machine:
        self.orders.append(order)
        await self._clock.sleep(TURN_S)
        return await super().launch(order)


async def _urls(instance: Instance) -> Sequence[str]:
    return ["https://controller.example"]


def _joining(store: SimStore, clock: SimClock) -> Joining:
    return Joining(store.port.records, clock, POLICY, b"k", _urls)


async def _join(store: SimStore, instance: Instance, config: str, clock: SimClock) -> None:
    token = hashlib.sha256(json.loads(config)["join_token"].encode()).hexdigest()
    await store.port.records.join(instance.id, token, "nonce", "session", clock.now())


def join(store: SimStore, after_s: float) -> None:
    """As the agent of a machine that was launched so long ago, after its launch had waited."""

    async def main() -> None:
        store.empty(1)
        clock = SimClock()
        cloud, joining = Busy(clock, random.Random(3), faults=Faults.none()), _joining(store, clock)
        cloud.orders = []
        engine = an_engine(
            store.port, clock, {"aws": cloud}, policy=POLICY, config_for=joining.config, launched=joining.launched
        )
        await store.port.jobs.submit(Job("j-1", "ann", JobSpec(run="x"), JobPhase.QUEUED, clock.now()))
        loop = asyncio.create_task(engine.run())
        while not cloud.there:
            await clock.sleep(1.0)
        await clock.sleep(after_s)
        loop.cancel()
        order = cloud.orders[0]
        instance = (await store.port.instances.by_name([order.name]))[order.name]
        await _join(store, instance, order.config, clock)

    run_virtually(main())


@pytest.fixture(scope="module")
def store() -> SimStore:
    return SimStore()


def test_a_machine_may_join_for_as_long_as_it_may_boot(store: SimStore) -> None:
    join(store, after_s=1.0)
    join(store, after_s=POLICY.boot_timeout_s - 60)


def test_and_no_longer(store: SimStore) -> None:
    with pytest.raises(Forbidden, match="expired"):
        join(store, after_s=POLICY.boot_timeout_s + 60)


def test_an_order_that_is_made_again_says_the_same_and_its_token_begins_anew(store: SimStore) -> None:
    async def main() -> None:
        store.empty(1)
        clock = SimClock()
        joining, now = _joining(store, clock), clock.now()
        offer = replace(SimCloud(clock, random.Random(3)).offer("north", Market.SPOT), provider="aws")
        one = Instance("i-1", "runner-i-1", "ann", InstancePhase.LAUNCHING, offer, now, now)
        first = await joining.config(one)
        await clock.sleep(TURN_S)
        assert await joining.config(one) == first
        await clock.sleep(POLICY.boot_timeout_s)
        await _join(store, one, first, clock)

    run_virtually(main())


def test_a_steps_machines_go_by_the_idle_timeout_of_its_launch(store: SimStore) -> None:
    async def main() -> None:
        store.empty(1)
        clock = SimClock()
        runner = RunnerSpec("https://github.com/acme/vision", "github", ("run-1",), idle_s=300.0)
        job = Job("j-1", "ann", JobSpec(run=(), kind="ci-runner", runner=runner), JobPhase.QUEUED, clock.now())
        await store.port.jobs.submit(job)
        assert (await limits_of_step(store.port, POLICY)).agent_silence_s == 300.0

    run_virtually(main())
