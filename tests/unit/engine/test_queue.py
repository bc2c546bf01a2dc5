"""What a waiting job is planned on: on-demand once its machine was taken away, where there is any."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal
from typing import Any

from provisioner.domain.forge import ForgeKind, Site
from provisioner.domain.job import InstancePhase, Job, JobPhase, JobSpec, Need, Reason, RunnerSpec, Why
from provisioner.domain.offer import Market, Offer
from provisioner.domain.place import Ladder, Rung
from provisioner.domain.pools import Pool
from provisioner.engine.market import Marketplace
from provisioner.engine.queue import Queue
from provisioner.engine.scene import Scene as Waiting
from tests.fakes.desk import FakeDesk
from tests.fakes.simstore import SimStore
from tests.fakes.virtual import run_virtually

from .abilities import OFFER, POLICY, Scene

SITE = Site(ForgeKind("github"), "https://github.com", "acme/vision")
RUNNER = JobSpec(run=(), kind="ci-runner", runner=RunnerSpec(SITE.url, "github", ("gpu",)))


HOST = Offer("hosts", "h", "h", "h", Market.ON_DEMAND, Decimal(0), "", "host h", 8, 32.0, 100.0)


class Offered:
    """`forced`: whether it was asked for on-demand alone, in order."""

    def __init__(self, *offers: Offer) -> None:
        self.forced: list[bool] = []
        self._offers = offers

    async def ladder(self, need: Need, *, force_on_demand: bool = False) -> Ladder:
        self.forced.append(force_on_demand)
        return Ladder(tuple(Rung(offer) for offer in self._offers))


def queue_at(scene: Scene, market: Offered, *pools: Pool) -> Queue:
    desk: Any = FakeDesk()
    dice, blocked = random.Random(1), lambda job: ""
    return Queue(scene.port, market, desk, scene.clock, POLICY, dice, blocked, pools=pools)  # type: ignore[arg-type]


async def asked(scene: Scene, spec: JobSpec, why: Why, *, wish: bool = False) -> list[bool]:
    """What the market is asked after the job's first attempt has ended for that reason."""
    port, now, market = scene.port, scene.clock.now(), Offered()
    instance = await scene.instance(ready=True)
    job = await port.jobs.submit(Job("j-1", "ada", spec, JobPhase.QUEUED, now))
    attempt = await port.jobs.assign(job, instance, now)
    if wish:
        await port.reruns.lost(await port.runners.expect(attempt, SITE, instance.name, now), now)
    await port.jobs.end(attempt, Reason(why), now, outcome=None, counts=False)
    await queue_at(scene, market).serve(Waiting([], [await port.jobs.get("j-1")], [], {}, {}), {}, {})
    return market.forced


def test_a_runner_whose_machine_vanished_or_broke_at_work_is_planned_on_demand_first() -> None:
    store = SimStore()

    async def main() -> None:
        assert await asked(Scene(store), RUNNER, Why.LOST) == [True, False]
        assert await asked(Scene(store), RUNNER, Why.STOPPED, wish=True) == [True, False]
        assert await asked(Scene(store), RUNNER, Why.STOPPED) == [False]
        assert await asked(Scene(store), JobSpec(run="x"), Why.LOST) == [False]
        assert await asked(Scene(store), JobSpec(run="x"), Why.PREEMPTED) == [True, False]

    run_virtually(main())


def test_a_pools_runner_for_what_lost_its_machine_is_planned_on_demand_first() -> None:
    """Its first attempt; where there is no on-demand machine, any."""
    store, runner = SimStore(), replace(RunnerSpec(SITE.url, "github", ("gpu",)), on_demand=True)

    async def main() -> None:
        scene, market = Scene(store), Offered()
        job = await scene.port.jobs.submit(
            Job("j-1", "pool/gpu", replace(RUNNER, runner=runner), JobPhase.QUEUED, scene.clock.now())
        )
        await queue_at(scene, market).serve(Waiting([], [job], [], {}, {}), {}, {})
        assert market.forced == [True, False]

    run_virtually(main())


def test_each_machine_of_which_there_are_only_so_many_is_planned_so_often() -> None:
    store = SimStore()

    async def main() -> None:
        scene = Scene(store)
        port, now = scene.port, scene.clock.now()
        two = replace(HOST, zone="h2", scope="host h2", most=2)
        queue = queue_at(scene, Offered(replace(HOST, most=1), two))
        jobs = [await port.jobs.submit(Job(f"j-{n}", "ada", JobSpec(run="x"), JobPhase.QUEUED, now)) for n in range(5)]
        await queue.serve(Waiting([], jobs[:2], [], {}, {}), {}, {})
        live = {one.id: one for one in await port.instances.find()}
        assert sorted(one.offer.zone for one in live.values()) == ["h", "h2"]
        await queue.serve(Waiting([], jobs, [], {}, {}), live, {})
        assert sorted(one.offer.zone for one in await port.instances.find()) == ["h", "h2", "h2"]
        reason = (await port.jobs.get("j-4")).reason
        assert (reason.why, reason.detail) == (Why.NO_CAPACITY, "hosts h: it is in use; hosts h: all 2 are in use")

    run_virtually(main())


def test_a_pool_has_no_machine_too_many_while_one_that_is_taken_away_is_still_there() -> None:
    store = SimStore()

    async def main() -> None:
        scene, pool = Scene(store), Pool("gpu", (SITE,), ("gpu",), max=2)
        port, now = scene.port, scene.clock.now()
        queue = queue_at(scene, Offered(HOST), pool)
        spec = replace(RUNNER, name=pool.job_name)
        jobs = [await port.jobs.submit(Job(f"j-{n}", f"{pool.job_name}/h/r", spec, JobPhase.QUEUED, now)) for n in "12"]
        going = await scene.instance(ready=True, owner=jobs[0].tenant, planned_for="")
        going = replace(going, phase=InstancePhase.DRAINING)
        await queue.serve(Waiting([], jobs, [], {}, {}), {going.id: going}, {})
        assert [one.planned_for for one in await port.instances.find() if one.id != going.id] == ["j-1"]
        await queue.serve(Waiting([], jobs, [], {}, {}), {}, {})
        assert {one.planned_for for one in await port.instances.find() if one.id != going.id} == {"j-1", "j-2"}

    run_virtually(main())


class OneHost:
    async def offers(self, need: Need) -> list[Offer]:
        return [replace(OFFER, most=1)]


def test_what_people_are_shown_counts_the_machines_that_there_are() -> None:
    store = SimStore()

    async def main() -> None:
        scene = Scene(store)
        provider: Any = OneHost()
        market = Marketplace({OFFER.provider: provider}, scene.port, scene.clock, POLICY, (OFFER.provider,))
        assert (await market.ladder(Need())).best is not None
        await scene.instance()
        ladder = await market.ladder(Need())
        assert ([rung.refused for rung in ladder.rungs], ladder.impossible) == (["it is in use"], False)

    run_virtually(main())
