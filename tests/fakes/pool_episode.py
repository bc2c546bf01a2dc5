"""One episode of pools from a seed: a few dozen CI jobs, of which webhooks tell badly, and everything else fails too.

What must be true at rest, beside what must be true of any episode: each job that nobody took back was given a runner,
none was killed but with a machine that the cloud took or that was lost, and nothing is left at forge, cloud or store.
What must be true all the while is for `pool_watch`.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

from provisioner.domain.forge import CiJobState
from provisioner.domain.job import Job, JobPhase, MarketPolicy, Need, Why
from provisioner.domain.pools import Pool, Window

from .ci_episode import TAKEN, check_killed
from .episode import Episode, Protection, Tally
from .pool_world import PoolWorld, pool
from .poolforge import Mischief, PoolJob
from .simagent import Troubles
from .simcloud import Faults
from .simforge import ForgeFaults
from .simulation import Violation

_TROUBLE_S, _LINGER_S = 120.0, 20.0
_PATIENCE_S = 4 * 3600.0
_LABELS = (("gpu",), ("gpu",), ("self-hosted", "gpu"), ("gpu", "a100"), ("a100",))
_LASTS_S = (2.0, 5.0, 10.0, 30.0)
_UNTIL_FIVE_PAST = Window(frozenset(range(7)), 9 * 60, 9 * 60 + 5)  # episodes begin at nine
FORCED = TAKEN - {Why.STOPPED}  # nobody stops a pool's machine
_CLOUDY = Faults(rejected=0.0, unauthorized=0.0)
_FORGETFUL = ForgeFaults(0.1, 0.1, 0.03, 0.05, 0.7, 0.3)
POOL_PROTECTIONS = (
    Protection("busy-refusal", "7", 0, "a forge removes no runner that has a job (F4)", is_the_clouds=True),
)


class PoolEpisode(Episode):
    async def run(self) -> Tally:
        rng = self._rng
        self._world = self._ci = PoolWorld(
            self._store,
            [self._pool("small", "self-hosted", "gpu"), self._pool("large", "self-hosted", "gpu", "a100")],
            seed=self._seed,
            mischief=rng.choice((Mischief(), Mischief(0.12, 0.11, 0.10), Mischief(0.4, 0.2, 0.2))),
            faults=rng.choice((Faults.none(), _CLOUDY, _CLOUDY)),
            forge_faults=rng.choice((ForgeFaults(0, 0, 0, 0, 1.0, 0), _FORGETFUL, _FORGETFUL)),
            troubles=Troubles(sequences=rng.random() < 0.5),
            crash_chance=rng.choice((0.0, 0.0005, 0.001, 0.003)),
            call_s=0.05,
            off=self._off,
        )
        await self._ci.alive(self._main)
        return await self._checked()

    def _pool(self, name: str, *labels: str) -> Pool:
        rng = self._rng
        ready: dict[str, Any] = {"min_idle": 1, "windows": (_UNTIL_FIVE_PAST,)} if rng.random() < 0.3 else {}
        return pool(
            name,
            *labels,
            max=rng.choice((2, 6, 12)),
            per_repository=rng.choice((None, None, 3)),
            idle_timeout_s=rng.choice((0.0, 5.0, 30.0)),
            need=Need(market=rng.choice((MarketPolicy.ON_DEMAND, MarketPolicy.SPOT_FIRST))),
            **ready,
        )

    async def _main(self, world: PoolWorld) -> None:
        rng = self._rng
        if rng.random() < world.ci.faults.outage:
            world.spawn(self._outage())
        jobs = await self._burst(rng.choice((5, 8, 12, 24)), rng.choice((2.0, 20.0, 40.0)))
        await self._take_back(jobs, rng.randrange(len(jobs) // 2 + 1))
        with suppress(AssertionError):
            await world.until(lambda: all(job.state is CiJobState.DONE for job in jobs), _TROUBLE_S)
        await world.clock.sleep(_LINGER_S)
        world.calm()
        await world.rest(_PATIENCE_S)
        await self._rest()

    # What happens at the forge

    async def _burst(self, count: int, within_s: float) -> list[PoolJob]:
        rng, world, jobs = self._rng, self._ci, list[PoolJob]()
        while len(jobs) < count:
            repository, run = f"acme/r{rng.randrange(4)}", f"run-{len(jobs)}"
            world.ci.begin_run(run, repository, fork=False)
            for _ in range(min(rng.randrange(1, 9), count - len(jobs))):
                more: dict[str, Any] = {"repository": repository, "run": run, "seconds": rng.choice(_LASTS_S)}
                jobs.append(job := world.job(len(jobs), *rng.choice(_LABELS), **more))
                world.ci.queue(job)
                await world.clock.sleep(rng.uniform(0.0, 2 * within_s / count))
        return jobs

    async def _take_back(self, jobs: list[PoolJob], count: int) -> None:
        """Those that still wait then, perhaps just when their runners are up."""
        for job in self._rng.sample(jobs, count):
            await self._ci.clock.sleep(self._rng.uniform(0.0, 3.0))
            self._ci.ci.cancel(job)

    async def _outage(self) -> None:
        await self._ci.clock.sleep(self._rng.uniform(0.0, 100.0))
        self._ci.ci.go_away(self._rng.choice((10.0, 60.0)))

    # What must be true then

    async def left(self) -> str:
        rows = [row.name for row in await self._store.port.runners.there()]
        return "; ".join(filter(None, [await super().left(), *rows, *self._ci.ci.records]))

    async def check_job(self, job: Job, tally: Tally) -> None:
        attempts = await self._store.port.jobs.attempts(job.id)
        tally.jobs += 1
        tally.attempts += len(attempts)
        tally.outcomes[str(job.outcome)] += 1
        if job.phase is not JobPhase.DONE:
            raise Violation("3", f"{job.id} is {job.phase}")

    async def check(self, tally: Tally) -> None:
        forge = self._ci.ci
        await check_killed(self._store.port, forge, FORCED, stepped=False)
        for job in forge.jobs.values():
            assert isinstance(job, PoolJob)
            if job.state is not CiJobState.DONE or not (job.runner or job.cancelled):
                raise Violation("3", f"{job.id} is {job.state} and never had a runner")
        tally.outcomes.update(Counter(f"ci-{job.state}{'-lost' if job.lost else ''}" for job in forge.jobs.values()))
        tally.outcomes.update({"ci-raced": len(forge.raced), "ci-run-again": sum("#" in key for key in forge.jobs)})
