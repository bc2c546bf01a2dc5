"""The engine: one loop of passes. A pass sees what was heard and listed, moves attempts, instances and jobs, and says
when the next one is due; a poke makes it at once."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime

from provisioner.domain.abilities import Abilities
from provisioner.domain.demand import Redelivers
from provisioner.domain.errors import StoreError
from provisioner.domain.forge import Forges, NoForges
from provisioner.domain.job import Attempt, CiOrigin, Instance, Job, JobPhase
from provisioner.domain.job_queue import OpensQueue
from provisioner.domain.policy import Policy
from provisioner.domain.pools import Pool
from provisioner.domain.ports import Clock, Provider
from provisioner.domain.store import Controllers, Store
from provisioner.domain.urgency import urgently

from .act import Actor, nothing_more
from .attempts import Attempts
from .attend import Attending
from .awaited import Awaited
from .collect import Collector
from .consoles import Consoles
from .demand import PoolDemand
from .desk import EngineDesk
from .handing import HandOvers
from .interruptions import Interruptions
from .leftovers import Leftovers
from .limits import Limits
from .market import Marketplace
from .observe import Observed, deaf_after_s
from .queue import Queue
from .reconcile import Reconciler
from .reruns import Reruns
from .runners import Runners
from .scene import Scene, interrupted

_LONGEST_NAP_S = 5.0  # what other controllers of the same database change is seen by then
_IDLE_NAP_S = 10.0  # the same while nothing lives and nothing waits
_SHORTEST_NAP_S = 0.02
_EVERY = 1_000_000  # a machine of a waiting job that was left out would be unwanted
_ROUNDS = 4  # within one pass: an instance gone frees a job, a machine ready takes one


class Engine:
    """`config_for` gives the agent's configuration of an instance that is about to be launched, `launched` is told once
    there is a machine. `controllers` is given where others share the store, `urls` are then where agents find this one.
    `abilities` are what some of the providers can beside. `forges` is where jobs may be runners, `pools` what is kept
    there, `redelivers` those that send lost webhooks again. `paused` says why a provider can be asked nothing, as far
    as somebody else knows; `providers` may grow. `allowed` gives a CI run's caps and budget as they are now."""

    def __init__(
        self,
        *,
        store: Store,
        providers: Mapping[str, Provider],
        clock: Clock,
        policy: Policy,
        rng: random.Random,
        config_for: Callable[[Instance], Awaitable[str]],
        holder: str,
        default_providers: Sequence[str] = ("local",),
        controllers: Controllers | None = None,
        urls: Sequence[str] = (),
        abilities: Abilities | None = None,
        forges: Forges | None = None,
        pools: Sequence[Pool] = (),
        redelivers: Mapping[str, Redelivers] | None = None,
        queues: Mapping[str, OpensQueue] | None = None,
        paused: Callable[[], Mapping[str, str]] = dict,
        launched: Callable[[Instance], Awaitable[None]] = nothing_more,
        allowed: Callable[[CiOrigin], CiOrigin] | None = None,
    ) -> None:
        can = abilities or Abilities()
        self._store = store
        self._clock = clock
        self._policy = policy
        self._nap_s = {
            busy: min(s, deaf_after_s(policy) / 3) for busy, s in ((True, _LONGEST_NAP_S), (False, _IDLE_NAP_S))
        }
        self._busy = True
        self.observed = Observed(providers, clock, policy, lambda: self.desk.poke())
        self.market = Marketplace(providers, store, clock, policy, default_providers, can.quotas, paused)
        self.desk = EngineDesk(store, self.observed, self.market, clock, policy)
        consoles, taken = Consoles(store, can.consoles, clock, policy), Interruptions(store, can.endings, clock, policy)
        actor = Actor(
            store,
            providers,
            clock,
            policy,
            self.observed,
            self.market,
            self.desk,
            config_for,
            launched,
            consoles,
            taken,
        )
        self._attending = controllers and Attending(controllers, holder, urls, self.observed, clock, policy)
        self._reconciler = Reconciler(
            store, providers, clock, policy, self.observed, self.market, self.desk, actor, holder
        )
        self.reruns = Reruns(store, forges or NoForges(), self.desk.poke, clock, policy)
        self.runners = Runners(store, forges or NoForges(), self.observed, self.desk, clock, policy, self.reruns)
        self.hand_overs = HandOvers(store, can.hand_overs, self.observed, self.desk, clock, policy)
        self._awaited = Awaited(store, self.observed, clock, policy)
        self.demand = PoolDemand(
            store=store,
            forges=forges or NoForges(),
            observed=self.observed,
            runners=self.runners,
            desk=self.desk,
            clock=clock,
            policy=policy,
            rng=rng,
            pools=pools,
            redelivers=redelivers,
            queues=queues,
            alone=controllers is None,
        )
        self._attempts = Attempts(
            store, self.observed, self.desk, clock, policy, taken, self.reruns, self.runners.sites
        )
        self._queue = Queue(
            store, self.market, self.desk, clock, policy, rng, self.runners.sites.blocked, allowed, pools
        )
        self._collector = Collector(store, providers, clock, policy, self.observed)
        self._leftovers = Leftovers(store, can.leftovers, clock, policy)
        self._limits = Limits(store, can.limits, clock, policy)
        self._last_busy: dict[str, datetime] = {}
        self._collected_s = clock.monotonic()
        self._listened_since: datetime | None = None
        self._listed_now: set[str] = set()
        self._marks: dict[str, object] = {}

    @property
    def urls(self) -> Sequence[str]:
        """Where agents find a controller, this one first; nothing where there is only this one."""
        return self._attending.urls if self._attending else ()

    async def run(self) -> None:
        """Passes until cancelled."""
        try:
            while True:
                nap_s = await self.run_pass()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.desk.woken.wait(), nap_s)
        finally:
            await self._reconciler.close()
            await self.observed.close()
            await self.runners.close()
            await self.reruns.close()
            await self._limits.close()
            await self._leftovers.close()
            if self._attending:
                with contextlib.suppress(StoreError):
                    await self._attending.leave()

    def resume(self, provider: str) -> None:
        """What paused it has been put right: it is looked at now."""
        self.market.resume(provider)
        self.observed.want(provider)
        self.desk.poke()

    async def run_pass(self) -> float:
        """Everything that is due now; seconds until the next thing is."""
        self.desk.woken.clear()
        with urgently():
            return await self._pass()

    async def _pass(self) -> float:
        for _ in range(_ROUNDS):
            if not await self._round():
                break
        else:
            self.desk.poke()
        await self._collect()
        self._leftovers.turn()
        self.desk.last_pass_at = self._clock.now()
        due = await self._store.instances.due()
        longest_s = self._nap_s[self._busy]
        due_s = (due - self.desk.last_pass_at).total_seconds() if due else longest_s
        next_s = min(due_s, self.observed.next_due_s(self._listed_now), longest_s)
        return max(_SHORTEST_NAP_S, next_s)

    async def _round(self) -> bool:
        """One look at everything; whether something moved, so that another look is worth while."""
        self.observed.keep_time()
        if self._attending:
            await self._attending.turn()
        instances = {i.id: i for i in await self._store.instances.find()}
        self._limits.turn(instances.values())
        poked = self._poked(instances)
        self._listed_now = {i.offer.provider for i in instances.values()}
        await self.observed.refresh(self._listed_now)
        poked |= self.observed.concerned(instances.values())
        live, jobs = await self._running()
        freed = await self._attempts.look(live, instances, jobs)
        if freed:
            self._last_busy.update(dict.fromkeys(freed, self._clock.now()))
            live, jobs = await self._running()
        self.desk.shown(instances.values(), live, jobs)
        await self.runners.turn(live, instances, jobs)
        queued = await self._store.jobs.waiting(limit=_EVERY)
        if await self._awaited.turn((*queued, *jobs.values())):
            queued = await self._store.jobs.waiting(limit=_EVERY)
            self.desk.poke()
        await self.reruns.turn(queued)
        waiting = await self.reruns.free(queued, ())
        lost_soon = await self.reruns.free(interrupted(live, instances, jobs), self.runners.at_work())
        runners = self.runners
        scene = Scene(live, waiting, lost_soon, self._busy_times(instances), runners.count(), runners.shown_at_work())
        self._busy = bool(instances or queued or self.reruns.pending)
        moved = await self._reconciler.run(scene, poked | freed | self._wanted_otherwise(scene, instances))
        if scene.waiting or scene.interrupted:
            if moved:
                instances = {i.id: i for i in await self._store.instances.find()}
            moved |= await self._queue.serve(scene, instances, self.observed.reports)
        return moved or bool(freed)

    def _poked(self, instances: Mapping[str, Instance]) -> set[str]:
        """What was heard of; everything, whenever no due time written before can be relied on."""
        poked, self.desk.poked = self.desk.poked, set()
        if self._listened_since != self.observed.listening_since:
            self._listened_since = self.observed.listening_since
            poked |= instances.keys()
        return poked

    def _wanted_otherwise(self, scene: Scene, instances: Mapping[str, Instance]) -> set[str]:
        """Instances that somebody has begun to want, or wants no longer, whenever they would be due."""
        before, self._marks = self._marks, {i.id: scene.mark(i) for i in instances.values()}
        return {key for key, mark in self._marks.items() if before.get(key) != mark}

    async def _running(self) -> tuple[list[Attempt], dict[str, Job]]:
        live = await self._store.jobs.live_attempts()
        jobs = await self._store.jobs.find(phases=(JobPhase.RUNNING,), limit=100_000) if live else []
        return live, {job.id: job for job in jobs}

    def _busy_times(self, live: Mapping[str, Instance]) -> dict[str, datetime]:
        """A controller that has just started does not know when a machine was last busy: it begins to count then."""
        for gone in self._last_busy.keys() - live.keys():
            del self._last_busy[gone]
        for instance in live.values():
            if instance.ready_at is not None and instance.ready_at < self.observed.listening_since:
                self._last_busy.setdefault(instance.id, self.observed.listening_since)
        return self._last_busy

    async def _collect(self) -> None:
        now_s = self._clock.monotonic()
        if now_s - self._collected_s >= self._policy.collect_every_s:
            self._collected_s = now_s
            await self._collector.collect()

    async def collect_now(self, *, dry_run: bool = False, expired: bool = False) -> dict[str, list[str]]:
        """`runner gc`: fresh listings twice, and no share; with `expired`, only what is past its tag."""
        self.observed.keep_time()
        for _ in range(2):
            await self.observed.refresh_fully()
        found, ended = await self._collector.collect(all_at_once=True, dry_run=dry_run, expired_only=expired)
        left, removed = await self._leftovers.collect_now(dry_run=dry_run, expired_only=expired)
        return {"found": [*found, *left], "ended": [*ended, *removed]}
