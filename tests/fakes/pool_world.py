"""A controller with pools, a forge that sends it webhooks, and a cloud, all over virtual time; watched from outside."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

from provisioner.domain.demand import Redelivers
from provisioner.domain.forge import CiJobState, Delivery, ForgeKind, Site
from provisioner.domain.job import Instance, MarketPolicy, Need
from provisioner.domain.job_queue import JobQueue, OpensQueue
from provisioner.domain.pools import Pool
from provisioner.engine import Engine
from provisioner.providers.aws.pace import Calls, Rate

from .hooked import CrashNow, Hooked, Life
from .overheard import overheard
from .pool_watch import PoolWatch
from .poolforge import BASE, Mischief, PoolForge, PoolJob
from .simagent import Troubles
from .simcloud import Faults, SimMachine
from .simforge import ForgeFaults
from .simqueue import SimQueue
from .simstore import SimStore
from .simulation import POLICY, World
from .virtual import SimClock, run_virtually

ACME = Site(ForgeKind("github"), BASE, "acme")
CALM = Troubles(0, 0, 0, 0, 0)


def pool(name: str, *labels: str, site: Site = ACME, **more: Any) -> Pool:
    """On machines that nobody takes away."""
    given: dict[str, Any] = {"max": 10, "idle_timeout_s": 60.0, "need": Need(market=MarketPolicy.ON_DEMAND), **more}
    return Pool(name, (site,), labels or ("gpu",), **given)


class PoolWorld(World):
    """Lasts as long as `live` does what it is given. `call_s`: half of what a call of the controller's takes, so that
    what comes in meanwhile is dealt with together, as it is where time passes by itself."""

    policy = replace(
        POLICY, max_instances=5000, max_usd_per_hour=Decimal(10**6), lifetime_default_s=7200, poll_every_s=50.0
    )

    rates = dict.fromkeys(Calls, Rate(100, 20))

    def __init__(
        self,
        store: SimStore,
        pools: Sequence[Pool],
        *,
        seed: int = 1,
        mischief: Mischief | None = None,
        faults: Faults | None = None,
        forge_faults: ForgeFaults | None = None,
        troubles: Troubles = CALM,
        crash_chance: float = 0.0,
        call_s: float = 0.01,
        off: str = "",
    ) -> None:
        rng = random.Random(seed)
        shares, wrong = mischief or Mischief(), forge_faults or ForgeFaults.none()

        def forge(clock: SimClock) -> PoolForge:
            return PoolForge(clock, random.Random(rng.random()), shares, wrong, refuses=off != "busy-refusal")

        store.empty(seed)
        self._rows = store
        super().__init__(rng, store.port, store.reopen, faults or Faults.none(), troubles, off, forge)
        self.pools = tuple(pools)
        self.crash_chance = crash_chance
        self._call_s = call_s
        self._calmed_s = 0.0
        assert isinstance(self.forge, PoolForge)
        self.ci: PoolForge = self.forge
        self.ci.deliver = self._deliver
        self.redelivers: Mapping[str, Redelivers] = {"github.com": self.ci}
        self.kept = {pool.name: SimQueue(self.ci, self.clock, *pool.labels) for pool in self.pools if pool.scale_set}
        self.watch = PoolWatch(self, self.ci, {pool.name: pool.max for pool in self.pools})
        self.ci.served = self.watch.served

    def live(self, main: Callable[[PoolWorld], Coroutine[Any, Any, None]]) -> None:
        with overheard(self.unexpected):
            run_virtually(self.alive(main))

    async def alive(self, main: Callable[[PoolWorld], Coroutine[Any, Any, None]]) -> None:
        self.spawn(self.control())
        self.spawn(self.ci.assign())
        self.spawn(self.watch.run())
        try:
            await main(self)
        finally:
            if self.violations:
                raise self.violations[0]

    async def moment(self, life: Life) -> None:
        if self._call_s:
            await self.clock.sleep(self._call_s)
        await super().moment(life)

    async def altered(self, name: str, call: Callable[..., Awaitable[Any]], arguments: Any, options: Any) -> Any:
        answer = await super().altered(name, call, arguments, options)
        self.watch.called(name, arguments)
        return answer

    def able_from_s(self, machine: SimMachine) -> float:
        agent = next((agent for agent in self._agents if agent.machine is machine), None)
        return max(self._listening_s, self._calmed_s, agent.cut_until_s if agent is not None else 0.0)

    def calm(self) -> None:
        self._calmed_s = self.clock.monotonic()
        super().calm()

    async def process(self, engine: Engine) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(engine.run())
            group.create_task(engine.demand.run())

    def queues(self, life: Life) -> Mapping[str, OpensQueue]:
        return {name: _Opens(self, life, queue) for name, queue in self.kept.items()}

    async def _deliver(self, delivery: Delivery) -> bool:
        """False when nobody answers: the controller is dead, or dies of it."""
        life, engine = self._life, self.engine
        if engine is None or life is None or life.dead or not self._awake.is_set():
            return False
        try:
            await engine.demand.take(delivery)
        except CrashNow:
            return False
        except Exception as error:
            self.violated("error", f"a webhook was answered with {error!r}", error)
            return False
        return True

    async def until(self, holds: Callable[[], bool], within_s: float, what: str = "") -> float:
        """Seconds until it held. Raises: AssertionError."""
        began_s = self.clock.monotonic()
        while not holds():
            if self.failure is not None:
                raise self.failure
            if self.violations:
                raise self.violations[0]
            assert self.clock.monotonic() - began_s < within_s, what or await self.told()
            await self.clock.sleep(0.1)
        return self.clock.monotonic() - began_s

    async def rest(self, within_s: float) -> float:
        """Until no job waits or runs and nothing of ours is left, at the cloud or the forge; seconds."""
        took_s = await self.until(lambda: all(j.state is CiJobState.DONE for j in self.ci.jobs.values()), within_s)
        return took_s + await self.until(lambda: not self.cloud.there and not self.ci.records, within_s)

    async def store_rows(self) -> list[Instance]:
        return await self._rows.all_instances()

    async def told(self) -> str:
        """Why it is as it is, by the controller's own words."""
        shown = await self.engine.demand.shown() if self.engine else []
        return "; ".join(f"{one.id}: {', '.join(one.why)}: {dict(one.runners)}" for one in shown)

    def job(self, number: int, *labels: str, repository: str = "acme/app", **more: Any) -> PoolJob:
        given: dict[str, Any] = {"seconds": 10.0, "run": f"run-{repository}", **more}
        return PoolJob(str(number), labels or ("gpu",), repository=repository, **given)


class _Opens:
    """A queue as one life of the controller has it, which may end between any two calls."""

    def __init__(self, world: PoolWorld, life: Life, queue: SimQueue) -> None:
        self._world, self._life, self._queue = world, life, queue

    async def open(self) -> JobQueue:
        opened: JobQueue = await Hooked(self._world, self._life, self._queue).open()
        return cast("JobQueue", Hooked(self._world, self._life, opened))
