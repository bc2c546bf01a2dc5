"""A forge that does not answer for long: nothing is rented for it, no machine is held up by it, no job is killed."""

from __future__ import annotations

import pytest

from provisioner.domain.forge import CiJobState
from tests.fakes.pool_world import PoolWorld, pool
from tests.fakes.simstore import SimStore
from tests.fakes.simulation import POLICY

_AWAY_S = 1200.0
_IDLE_S = 60.0
_ENDS_S = POLICY.boot_timeout_s + _IDLE_S + POLICY.runner_stuck_s + POLICY.drain_s  # it was never seen online


@pytest.fixture(scope="module")
def store() -> SimStore:
    return SimStore()


async def nobody_comes(world: PoolWorld) -> None:
    """A runner is online, its job was cancelled before, and its forge is away."""
    job = world.job(1)
    world.ci.queue(job)
    await world.until(lambda: bool(world.ci.records), 120)
    world.ci.cancel(job)
    await world.until(lambda: any(one.online for one in world.ci.records.values()), 120)
    world.ci.go_away(_AWAY_S)


async def told(world: PoolWorld, what: str) -> int:
    return sum(event.what == what for event in await world.store.records.events())


def test_an_idle_runners_machine_goes_and_its_record_when_the_forge_is_back(store: SimStore) -> None:
    async def main(world: PoolWorld) -> None:
        await nobody_comes(world)
        await world.until(lambda: not world.cloud.there, _ENDS_S)
        assert world.ci.records
        assert await told(world, "runner.stuck") == 1
        await world.clock.sleep(_AWAY_S)
        await world.until(lambda: not world.ci.records, 600)

    PoolWorld(store, [pool("gpu", idle_timeout_s=_IDLE_S)]).live(main)


def test_one_that_is_given_a_job_meanwhile_does_it_and_goes_then(store: SimStore) -> None:
    async def main(world: PoolWorld) -> None:
        await nobody_comes(world)
        while not any(row.unwanted_at for row in await world.store.runners.there()):
            await world.clock.sleep(1)
        job = world.job(2, seconds=POLICY.runner_stuck_s * 5)
        world.ci.queue(job)
        await world.until(lambda: job.state is CiJobState.DONE, POLICY.runner_stuck_s * 6)
        assert not job.lost
        await world.until(lambda: not world.cloud.there, _ENDS_S)

    PoolWorld(store, [pool("gpu", idle_timeout_s=_IDLE_S)]).live(main)


def test_nothing_is_rented_before_it_answers_however_well_it_did_long_ago(store: SimStore) -> None:
    async def main(world: PoolWorld) -> None:
        world.ci.begin_run("r1", "acme/app", fork=False)
        world.ci.queue(world.job(1, run="r1"))
        await world.rest(300)
        await world.clock.sleep(1200)
        world.ci.go_away(600)
        calls = world.cloud.calls
        world.ci.queue(world.job(2, run="r1"))
        await world.clock.sleep(590)
        assert world.cloud.calls == calls
        await world.until(lambda: world.cloud.calls > calls, 120)

    PoolWorld(store, [pool("gpu")]).live(main)
