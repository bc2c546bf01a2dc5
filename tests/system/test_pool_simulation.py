"""1,600 jobs within a minute, from many repositories, with a third of the webhooks lost, doubled or out of order, fifty
jobs cancelled, labels that overlap, and, in smaller bursts, everything else failing too: every job runs, no machine
outlives its work, and there are never more than there may be."""

from __future__ import annotations

import math
import os
import random

import pytest

from provisioner.domain.forge import CiJobState
from provisioner.domain.job import JobPhase, Outcome
from tests.fakes.ci_episode import check_killed
from tests.fakes.episode import Protection, episode
from tests.fakes.pool_episode import FORCED, POOL_PROTECTIONS, PoolEpisode
from tests.fakes.pool_world import PoolWorld, pool
from tests.fakes.poolforge import Mischief, PoolJob
from tests.fakes.simagent import Troubles
from tests.fakes.simcloud import Faults
from tests.fakes.simforge import ForgeFaults
from tests.fakes.simstore import SimStore
from tests.fakes.simulation import Violation
from tests.fakes.virtual import EPOCH

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]
JOBS = int(os.environ.get("BURST_JOBS", "1600"))
THIRD = Mischief(lose=0.12, double=0.11, late=0.10)
LABELS = (("gpu",), ("gpu",), ("self-hosted", "gpu"), ("gpu", "a100"), ("a100",))
WITHIN_S = 4 * 3600.0
KNOWN_S = 60.0  # Source: the figure for webhooks that were lost
EPISODES = 10


@pytest.fixture(scope="module")
def store() -> SimStore:
    return SimStore()


async def burst(world: PoolWorld, count: int, cancelled: int) -> list[PoolJob]:
    """`count` jobs in a minute, in runs of up to forty, and then `cancelled` of them taken back while they wait."""
    dice, jobs = random.Random(count), list[PoolJob]()
    while len(jobs) < count:
        repository = f"acme/r{dice.randrange(12)}"
        run = f"run-{len(jobs)}"
        world.ci.begin_run(run, repository, fork=False)
        for _ in range(min(dice.randrange(1, 41), count - len(jobs))):
            labels = dice.choice(LABELS)
            job = world.job(len(jobs), *labels, repository=repository, run=run, seconds=dice.uniform(5, 40))
            jobs.append(job)
            world.ci.queue(job)
            await world.clock.sleep(60 / count)
    for job in dice.sample(jobs, len(jobs)):
        if job.state is CiJobState.QUEUED and sum(one.cancelled for one in jobs) < cancelled:
            world.ci.cancel(job)
            await world.clock.sleep(dice.uniform(0, 0.2))
    return jobs


async def check(world: PoolWorld, jobs: list[PoolJob], cancelled: int) -> None:
    """At rest."""
    await check_killed(world.store, world.ci, FORCED, stepped=False)
    assert sum(job.cancelled for job in jobs) == cancelled
    assert [job.id for job in jobs if not job.runner and not job.cancelled] == []
    for row in await world.store_rows():
        assert row.phase == "gone", row
    left = await world.store.jobs.find(phases=(JobPhase.QUEUED, JobPhase.RUNNING), limit=10_000)
    assert left == []
    assert await world.store.runners.there() == []


def made_good(world: PoolWorld, jobs: list[PoolJob]) -> list[float]:
    """Of each job whose first webhook was lost: seconds until it was known all the same, or had a runner meanwhile."""
    found = []
    for job in jobs:
        if job.id in world.ci.unheard and not job.cancelled and job.began_at is not None:
            known_s = world.watch.known_s.get(job.id, math.inf) - (job.created_at - EPOCH).total_seconds()
            found.append(min(known_s, (job.began_at - job.created_at).total_seconds()))
    return found


def test_every_job_of_a_burst_runs_and_no_machine_outlives_its_work(store: SimStore) -> None:
    async def main(world: PoolWorld) -> None:
        jobs = await burst(world, JOBS, 50)
        ended_s = await world.until(lambda: all(job.state is CiJobState.DONE for job in jobs), WITHIN_S)
        rested_s = await world.rest(300)
        await world.clock.sleep(5)
        await check(world, jobs, 50)
        assert not any(job.lost for job in jobs)
        unheard = made_good(world, jobs)
        assert max(unheard) <= KNOWN_S
        done = await world.store.jobs.find(phases=(JobPhase.DONE,), limit=100_000)
        spare = sum(one.outcome is not Outcome.SUCCEEDED for one in done)
        waited = sorted((job.began_at - job.created_at).total_seconds() for job in jobs if job.began_at is not None)
        print(
            f"\n{len(jobs)} jobs, {world.ci.sent} webhooks, {world.ci.mishaps} of them lost, doubled or late;"
            f" all had run {ended_s:.0f} s after the last was queued, and nothing was left {rested_s:.0f} s later;"
            f" {len(done)} runners, {spare} of them too many; at most {dict(world.watch.most)} machines;"
            f" a job waited {waited[len(waited) // 2]:.0f} s (median), {waited[-1]:.0f} s (longest);"
            f" the forge was asked about {world.ci.asked} jobs;"
            f" of {len(unheard)} no webhook said that they had come, and each was known within {max(unheard):.0f} s;"
            f" no machine was there for more than {world.watch.longest_s:.0f} s after its work"
        )

    pools = [
        pool("small", "self-hosted", "gpu", max=400, per_repository=60),
        pool("large", "self-hosted", "gpu", "a100", max=300),
    ]
    PoolWorld(store, pools, mischief=THIRD, call_s=0.02).live(main)


@pytest.mark.parametrize("seed", range(int(os.environ.get("BURST_SEEDS", "6"))))
def test_it_does_with_a_forge_a_cloud_and_a_controller_that_fail(store: SimStore, seed: int) -> None:
    """What runs on a machine that the cloud takes back is lost; nothing that waits is."""

    async def main(world: PoolWorld) -> None:
        jobs = await burst(world, 60, 5)
        await world.clock.sleep(200)
        world.calm()
        await world.until(lambda: all(job.state is CiJobState.DONE for job in jobs), WITHIN_S)
        await world.rest(3600)
        await world.clock.sleep(60)
        await check(world, jobs, 5)

    pools = [pool("small", "self-hosted", "gpu", max=12), pool("large", "self-hosted", "gpu", "a100", max=6)]
    faults, wrong = Faults(rejected=0.0, unauthorized=0.0, late_launch=0.0), ForgeFaults(0.15, 0.15, 0.05, 0.05)
    chance = 0.0 if seed == 0 else 0.0005
    world = PoolWorld(
        store,
        pools,
        seed=seed,
        mischief=THIRD,
        faults=faults,
        forge_faults=wrong,
        troubles=Troubles(),
        crash_chance=chance,
    )
    world.live(main)


def test_in_smaller_ones_everything_fails_and_jobs_are_given_to_runners_about_to_be_removed(store: SimStore) -> None:
    raced = 0
    for seed in range(EPISODES):
        try:
            raced += episode(seed, store=store, kind=PoolEpisode).outcomes["ci-raced"]
        except Violation as error:
            raise AssertionError(f"seed {seed}: {error}") from error
    assert raced > 0


@pytest.mark.parametrize("protection", POOL_PROTECTIONS, ids=lambda given: given.name)
def test_without_this_protection_an_invariant_breaks(store: SimStore, protection: Protection) -> None:
    with pytest.raises(Violation) as found:
        episode(protection.seed, off=protection.name, stress=protection.stress, store=store, kind=PoolEpisode)
    assert found.value.invariant == protection.breaks
