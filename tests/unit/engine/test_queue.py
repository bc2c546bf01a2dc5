"""What a waiting job is planned on: on-demand once its machine was taken away, where there is any."""

from __future__ import annotations

import random
from typing import Any

from provisioner.domain.forge import ForgeKind, Site
from provisioner.domain.job import Job, JobPhase, JobSpec, Need, Reason, RunnerSpec, Why
from provisioner.domain.place import Ladder
from provisioner.engine.queue import Queue
from provisioner.engine.scene import Scene as Waiting
from tests.fakes.desk import FakeDesk
from tests.fakes.simstore import SimStore
from tests.fakes.virtual import run_virtually

from .abilities import POLICY, Scene

SITE = Site(ForgeKind.GITHUB, "https://github.com", "acme/vision")
RUNNER = JobSpec(run=(), kind="ci-runner", runner=RunnerSpec(SITE.url, "github", ("gpu",)))


class Market:
    """Has nothing to offer; `forced`: whether it was asked for on-demand alone, in order."""

    def __init__(self) -> None:
        self.forced: list[bool] = []

    async def ladder(self, need: Need, *, force_on_demand: bool = False) -> Ladder:
        self.forced.append(force_on_demand)
        return Ladder(())


async def asked(scene: Scene, spec: JobSpec, why: Why, *, wish: bool = False) -> list[bool]:
    """What the market is asked after the job's first attempt has ended for that reason."""
    port, now, market = scene.port, scene.clock.now(), Market()
    instance = await scene.instance(ready=True)
    job = await port.jobs.submit(Job("j-1", "ada", spec, JobPhase.QUEUED, now))
    attempt = await port.jobs.assign(job, instance, now)
    if wish:
        await port.reruns.lost(await port.runners.expect(attempt, SITE, instance.name, now), now)
    await port.jobs.end(attempt, Reason(why), now, outcome=None, counts=False)
    desk: Any = FakeDesk()
    queue = Queue(port, market, desk, scene.clock, POLICY, random.Random(1), lambda job: "")  # type: ignore[arg-type]
    await queue.serve(Waiting([], [await port.jobs.get("j-1")], [], {}, {}), {}, {})
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
