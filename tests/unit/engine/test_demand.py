"""Demand, from what a forge tells to what runs, on simulated machines: what is lost, late, stolen or a fork's."""

from __future__ import annotations

import pytest

from provisioner.domain.forge import CiJobState, Delivery, ForgeKind, Site, runner_site
from provisioner.domain.job import JobPhase, Need, Outcome, Why
from provisioner.domain.offer import Market
from tests.fakes.pool_world import ACME, PoolWorld, pool
from tests.fakes.poolforge import Mischief, PoolJob
from tests.fakes.simstore import SimStore


@pytest.fixture(scope="module")
def store() -> SimStore:
    return SimStore()


async def planned(world: PoolWorld) -> int:
    return len(await world.store.instances.find())


def test_a_queued_job_gets_a_machine_and_nothing_is_left(store: SimStore) -> None:
    async def main(world: PoolWorld) -> None:
        await world.clock.sleep(5)
        job = world.job(1)
        world.ci.queue(job)
        assert await world.until(lambda: world.cloud.calls > 0, 5) < 2
        await world.until(lambda: job.state is CiJobState.DONE, 120)
        assert await world.rest(120) < 60
        (done,) = await world.store.jobs.find()
        assert (done.spec.name, done.spec.kind, done.outcome) == ("pool/gpu", "ci-runner", Outcome.SUCCEEDED)
        assert done.owner == "pool/gpu/github.com/acme/app"
        (machine,) = await world.store_rows()
        assert machine.owner == f"pool/gpu/github.com/acme/app#{done.id}"
        assert not job.lost

    PoolWorld(store, [pool("gpu")]).live(main)


def test_a_job_whose_webhook_was_lost_has_a_machine_planned_within_a_minute(store: SimStore) -> None:
    async def main(world: PoolWorld) -> None:
        for number in range(3):
            await world.clock.sleep(100 + 17 * number)
            world.ci.queue(job := world.job(number))
            calls = world.cloud.calls
            assert await world.until(lambda calls=calls: world.cloud.calls > calls, 90) <= 60
            await world.until(lambda job=job: job.state is CiJobState.DONE, 200)

    PoolWorld(store, [pool("gpu")], mischief=Mischief(lose=1.0)).live(main)


def test_polls_come_more_often_when_webhooks_have_fallen_silent(store: SimStore) -> None:
    async def main(world: PoolWorld) -> None:
        asked: list[float] = []
        queued = world.ci.queued

        async def counted(site: object) -> object:
            asked.append(world.clock.monotonic())
            return await queued(site)  # type: ignore[arg-type]

        world.ci.queued = counted  # type: ignore[method-assign,assignment]
        world.ci.queue(world.job(1, seconds=900))
        await world.clock.sleep(290)
        assert len(asked) <= 7
        await world.clock.sleep(200)
        before = len(asked)
        await world.clock.sleep(150)
        assert 9 <= len(asked) - before <= 11

    world = PoolWorld(store, [pool("gpu")], mischief=Mischief(lose=1.0))
    world.redelivers = {}
    world.live(main)


def test_what_a_poll_does_not_show_twice_rents_nothing_any_more(store: SimStore) -> None:
    """It was cancelled, and nobody said so."""

    async def main(world: PoolWorld) -> None:
        blocker = world.job(1, seconds=400)
        world.ci.queue(blocker)
        await world.until(lambda: blocker.state is CiJobState.RUNNING, 120)
        waiting = [world.job(number) for number in (2, 3)]
        for one in waiting:
            world.ci.queue(one)
        await world.clock.sleep(2)
        for one in waiting:
            world.ci.cancel(one)
        await world.clock.sleep(115)
        assert "0 jobs wait; 0 runners" in await world.told()

    PoolWorld(store, [pool("gpu", max=1)], mischief=Mischief(lose=1.0)).live(main)


def test_a_pool_at_a_forge_below_its_hosts_root_counts_its_runners_there(store: SimStore) -> None:
    below = Site(ForgeKind("gitlab"), "https://git.example.org/gitlab", "team")

    async def main(world: PoolWorld) -> None:
        await world.until(lambda: world.cloud.calls > 0, 30)
        await world.clock.sleep(5)
        (made,) = await world.store.jobs.find()
        assert made.spec.runner is not None
        assert runner_site(made.spec.runner) == below
        assert "1 runners without a job ought to be there, and 1 are" in await world.told()

    PoolWorld(store, [pool("gpu", site=below, min_idle=1)]).live(main)


def test_a_stolen_runner_strands_nobody(store: SimStore) -> None:
    """A job of a fork, for which nothing is rented, takes the runner that was rented for another's."""

    async def main(world: PoolWorld) -> None:
        theirs = [world.job(number, repository="acme/open", fork=True, run="theirs") for number in range(3)]
        for one in theirs:
            world.ci.queue(one)
        await world.clock.sleep(100)
        assert world.cloud.calls == 0
        mine = world.job(9, run="mine")
        world.ci.queue(mine)
        await world.until(lambda: mine.state is CiJobState.DONE, 600)
        events = [event for event in await world.store.records.events() if event.what == "pool.refused"]
        assert sorted(event.data["job"] for event in events) == ["0", "1", "2"]
        assert "it comes from a fork, and forks are not trusted by gpu" in events[0].message

    PoolWorld(store, [pool("gpu")]).live(main)


def test_a_run_says_once_that_it_is_no_forks_and_no_forge_is_asked(store: SimStore) -> None:
    async def main(world: PoolWorld) -> None:
        await world.clock.sleep(5)
        world.ci.begin_run("r1", "acme/app", fork=False)
        await world.clock.sleep(1)
        for number in range(5):
            world.ci.queue(world.job(number, run="r1"))
        await world.clock.sleep(2)
        assert (await planned(world), world.ci.asked) == (5, 0)
        for number in range(5):
            world.ci.queue(world.job(10 + number, run="r2"))
        await world.clock.sleep(4)
        assert await planned(world) == 10
        assert world.ci.asked <= 2

    PoolWorld(store, [pool("gpu", max=20)]).live(main)


def test_nothing_is_rented_while_nobody_says_whose_job_it_is(store: SimStore) -> None:
    async def main(world: PoolWorld) -> None:
        await world.clock.sleep(1)
        world.ci.go_away(30)
        world.ci.queue(world.job(1))
        await world.clock.sleep(25)
        assert await planned(world) == 0
        assert "of 1 jobs the forge has not told yet where they come from" in await world.told()
        assert await world.until(lambda: world.cloud.calls > 0, 60) < 40

    PoolWorld(store, [pool("gpu")]).live(main)


def test_some_are_kept_ready_and_replaced_and_go_with_their_pool(store: SimStore) -> None:
    async def main(world: PoolWorld) -> None:
        def idle() -> int:
            return sum(record.online and record.job is None for record in world.ci.records.values())

        await world.until(lambda: idle() == 2, 120)
        await world.clock.sleep(300)
        assert idle() == 2
        began_s = world.clock.monotonic()
        job = world.job(1, seconds=100)
        world.ci.queue(job)
        await world.until(lambda: job.state is CiJobState.RUNNING, 10)
        assert world.clock.monotonic() - began_s < 6
        await world.until(lambda: idle() == 2, 60)
        world.pools = ()
        assert world._life is not None
        world._life.dead = True
        world._life.killed.set()
        await world.rest(400)
        assert not job.lost

    PoolWorld(store, [pool("gpu", min_idle=2, max=4)]).live(main)


def test_what_lost_its_machine_is_run_again_on_demand_and_what_merely_failed_is_not(store: SimStore) -> None:
    """Its run ends so late that nothing is left of the runner that it had."""

    async def main(world: PoolWorld) -> None:
        async def served(job: PoolJob) -> Market:
            await world.until(lambda: job.state is CiJobState.DONE, 200)
            assert not job.lost
            return next(one.offer.market for one in await world.store_rows() if one.name == job.runner)

        cut, failing = world.job(1, seconds=12, run="77"), world.job(2, seconds=3, run="77")
        world.ci.queue(cut)
        world.ci.queue(failing)
        await world.until(lambda: cut.state is CiJobState.RUNNING, 120)
        await world.clock.sleep(6)
        world.cloud.end(next(one for one in world.cloud.there if one.name == cut.runner))
        assert cut.lost
        cut.over_s = world.clock.monotonic() + 120
        assert await served(failing) is Market.SPOT
        await world.clock.sleep(15)
        await world.until(lambda: not world.cloud.there, 40)
        assert isinstance(by_hand := world.ci.run_again(failing), PoolJob)
        assert await served(by_hand) is Market.SPOT
        await world.until(lambda: cut.again is not None, 90)
        assert isinstance(again := cut.again, PoolJob)
        await world.until(lambda: bool(world.cloud.there), 20)
        assert "1 of them lost a machine before, and get an on-demand one where there is any" in await world.told()
        assert await served(again) is Market.ON_DEMAND

    PoolWorld(store, [pool("gpu", need=Need(), idle_timeout_s=3.0)]).live(main)


def test_one_too_many_goes_when_it_has_waited_and_never_when_it_works(store: SimStore) -> None:
    async def main(world: PoolWorld) -> None:
        jobs = [world.job(number, seconds=200) for number in range(3)]
        world.ci.queue(jobs[0])
        world.ci.queue(jobs[1])
        await world.until(lambda: world.cloud.calls == 2, 20)
        world.ci.cancel(jobs[1])
        await world.until(lambda: len(world.ci.records) == 1 and jobs[0].state is CiJobState.RUNNING, 200)
        await world.until(lambda: jobs[0].state is CiJobState.DONE, 300)
        assert await world.rest(100) < 60
        assert not jobs[0].lost

    PoolWorld(store, [pool("gpu")]).live(main)


def test_a_pool_whose_runners_come_to_nothing_waits_and_says_why(store: SimStore) -> None:
    from provisioner.domain.gpu import GpuNeed
    from provisioner.domain.job import Need

    async def main(world: PoolWorld) -> None:
        world.ci.queue(world.job(1))
        told = set()
        for _ in range(120):
            await world.clock.sleep(1)
            told.add(" ".join((await world.told()).partition("nothing is submitted: ")[2].split()[:3]))
        made = await world.store.jobs.find(phases=(JobPhase.DONE,), limit=1000)
        assert 3 <= len(made) < 12
        assert "the last 3" in told

    PoolWorld(store, [pool("gpu", need=Need(gpu=GpuNeed(name="H100")))]).live(main)


def test_nothing_is_rented_when_the_forge_refuses_the_program_and_that_is_said(store: SimStore) -> None:
    async def main(world: PoolWorld) -> None:
        world.ci.refused_at = world.clock.now()
        world.ci.queue(world.job(1))
        await world.clock.sleep(60)
        said = "github.com refuses actions-runner 2.330.0 from 2026-01-05 on: name a newer one in the settings"
        (waiting,) = await world.store.jobs.find()
        assert (waiting.phase, waiting.reason.why, waiting.reason.detail) == (JobPhase.QUEUED, Why.FORGE, said)
        assert said in await world.told()
        assert (await planned(world), world.cloud.calls) == (0, 0)

    PoolWorld(store, [pool("gpu")]).live(main)


def test_overlapping_pools_rent_one_machine_a_job(store: SimStore) -> None:
    async def main(world: PoolWorld) -> None:
        await world.clock.sleep(3)
        for number in range(4):
            world.ci.queue(world.job(number, "gpu"))
        world.ci.queue(world.job(9, "gpu", "a100"))
        await world.until(lambda: world.cloud.calls == 5, 20)
        await world.clock.sleep(4)
        owners = sorted(one.owner.split("/")[1] for one in await world.store.instances.find())
        assert owners == ["large", "small", "small", "small", "small"]

    PoolWorld(store, [pool("large", "self-hosted", "gpu", "a100"), pool("small", "self-hosted", "gpu")]).live(main)


def test_a_webhook_of_gitlabs_that_says_little_is_looked_up(store: SimStore) -> None:
    async def main(world: PoolWorld) -> None:
        await world.clock.sleep(3)
        job = world.job(7, run="")
        world.ci.jobs[job.id] = job
        job.created_at = world.clock.now()
        world.ci._waiting[job.id] = job
        facts = {"job": "7", "repository": "acme/app", "status": "pending", "base": ACME.base}
        assert world.engine is not None
        assert await world.engine.demand.take(Delivery("d", "build", None, facts))
        await world.until(lambda: job.state is CiJobState.DONE, 120)
        elsewhere = Delivery("e", "build", None, {**facts, "repository": "else/where"})
        assert await world.engine.demand.take(elsewhere)
        assert world.ci.asked == 1

    PoolWorld(store, [pool("gpu")]).live(main)


def test_redelivery_brings_what_no_poll_would(store: SimStore) -> None:
    """A pool on a forge that cannot be polled: what was lost comes again within five minutes."""

    async def main(world: PoolWorld) -> None:
        async def broken(site: object) -> object:
            from provisioner.domain.errors import ForgeUnreachable

            raise ForgeUnreachable("502")

        world.ci.queued = broken  # type: ignore[method-assign,assignment]
        job: PoolJob = world.job(1)
        world.ci.queue(job)
        world.ci._mischief = Mischief()
        await world.until(lambda: job.state is CiJobState.DONE, 400)
        assert "poll https://github.com/acme: 502" in await world.told()

    PoolWorld(store, [pool("gpu")], mischief=Mischief(lose=1.0)).live(main)
