"""Pools that hear of their jobs by a queue, on simulated machines: no webhook ever comes, and polls seldom or never."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from provisioner.domain.forge import CiJobState
from provisioner.domain.job import Outcome
from tests.fakes.pool_world import PoolWorld, pool
from tests.fakes.poolforge import Mischief
from tests.fakes.simforge import ForgeFaults
from tests.fakes.simqueue import SimQueue
from tests.fakes.simstore import SimStore

NEVER_S = 1e7


@pytest.fixture(scope="module")
def store() -> SimStore:
    return SimStore()


def world(store: SimStore, *, poll_every_s: float = NEVER_S, **more: Any) -> PoolWorld:
    class Deaf(PoolWorld):
        policy = replace(PoolWorld.policy, poll_every_s=poll_every_s)

    made = Deaf(store, [pool("gpu", scale_set=True)], mischief=Mischief(lose=1.0), **more)
    made.redelivers = {}
    return made


def queue_of(world: PoolWorld) -> SimQueue:
    return world.kept["gpu"]


def test_a_job_that_only_the_queue_tells_of_is_served_and_confirmed(store: SimStore) -> None:
    async def main(world: PoolWorld) -> None:
        await world.clock.sleep(5)
        world.ci.queue(job := world.job(1))
        assert await world.until(lambda: world.cloud.calls > 0, 10) < 3
        await world.until(lambda: job.state is CiJobState.DONE, 120)
        await world.rest(120)
        assert (queue_of(world).messages, queue_of(world).opened) == ({}, 1)

    world(store).live(main)


def test_what_was_cancelled_while_it_waited_rents_nothing(store: SimStore) -> None:
    async def main(world: PoolWorld) -> None:
        await world.clock.sleep(5)
        world.ci.go_away(20)
        world.ci.queue(job := world.job(1))
        world.ci.cancel(job)
        await world.until(lambda: not queue_of(world).messages, 120)
        await world.clock.sleep(10)
        assert world.cloud.calls == 0
        assert queue_of(world).messages == {}

    world(store).live(main)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.system) for seed in range(1, 9))])
def test_whenever_the_controller_is_killed_no_job_is_lost_or_served_twice(store: SimStore, seed: int) -> None:
    """Between any two calls, so also when jobs are stored and not confirmed; the queue fails now and then as well."""

    async def main(world: PoolWorld) -> None:
        for number in range(6):
            world.ci.queue(world.job(number, seconds=8.0))
            await world.clock.sleep(4)
        await world.clock.sleep(100)
        world.calm()
        await world.rest(3000)
        await world.until(lambda: not queue_of(world).messages, 600)
        assert world.crashes > 0
        assert not any(job.lost for job in world.ci.jobs.values())
        ends = Counter(job.outcome for job in await world.store.jobs.find())
        assert ends[Outcome.SUCCEEDED] == 6

    faults = ForgeFaults(unreachable=0.08, answer_lost=0.08, throttled=0, slow=0, raced=0, outage=0)
    world(store, seed=seed, crash_chance=0.006, forge_faults=faults).live(main)


def test_what_was_stored_and_not_confirmed_is_told_again(store: SimStore) -> None:
    async def main(world: PoolWorld) -> None:
        await world.clock.sleep(5)
        life = world._life
        assert life is not None
        stored = world.store.ci_jobs.note

        async def and_die(*given: Any) -> None:
            await stored(*given)
            life.dead = True
            life.killed.set()

        world.store.ci_jobs.note = and_die  # type: ignore[method-assign]
        world.ci.queue(job := world.job(1))
        await world.until(lambda: life.dead, 10)
        world.store.ci_jobs.note = stored  # type: ignore[method-assign]
        assert len(queue_of(world).messages) == 1
        await world.until(lambda: job.state is CiJobState.DONE, 300)
        await world.rest(300)
        await world.until(lambda: not queue_of(world).messages, 200)
        told = [number for number, _ in queue_of(world).told]
        assert told.count(1) == 2
        assert len(await world.store.jobs.find()) == 1

    world(store).live(main)


def test_jobs_that_are_counted_and_not_told_of_are_polled_for_soon(store: SimStore) -> None:
    async def main(world: PoolWorld) -> None:
        await world.clock.sleep(50)
        queue_of(world).drop = True
        world.ci.queue(lost := world.job(1))
        await world.clock.sleep(60)
        assert world.cloud.calls == 0
        queue_of(world).drop = False
        world.ci.queue(world.job(2))
        await world.until(lambda: world.cloud.calls >= 2, 20)
        await world.until(lambda: lost.state is CiJobState.DONE, 300)

    world(store, poll_every_s=1000).live(main)


def test_a_count_that_is_wrong_rents_nothing(store: SimStore) -> None:
    async def main(world: PoolWorld) -> None:
        queue_of(world).claims = 40
        world.ci.queue(world.job(1))
        await world.rest(300)
        assert world.watch.most["gpu"] == 1

    world(store, poll_every_s=1000).live(main)


def test_while_another_has_the_queue_polls_go_on_and_people_are_told(store: SimStore) -> None:
    async def main(world: PoolWorld) -> None:
        await queue_of(world).open()
        queue_of(world).session_s = 150
        await world.clock.sleep(3)
        assert "queue gpu: another has it" in await world.told()
        world.ci.queue(job := world.job(1))
        await world.until(lambda: job.state is CiJobState.DONE, 200)
        await world.until(lambda: queue_of(world).opened == 2, 200)
        await world.clock.sleep(60)
        assert "queue gpu" not in await world.told()

    world(store, poll_every_s=50).live(main)
