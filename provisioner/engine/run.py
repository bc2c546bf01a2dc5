"""The engine: one loop of passes. A pass sees what was heard and listed, moves attempts, instances and jobs, and says
when the next one is due; a poke makes it at once."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from provisioner.domain.job import Instance, JobPhase
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock, Provider, Store

from .act import Actor
from .attempts import Attempts
from .collect import Collector
from .desk import EngineDesk
from .market import Marketplace
from .observe import Observed
from .queue import Queue
from .reconcile import Reconciler, Scene

_LONGEST_NAP_S = 5.0
_ROUNDS = 4  # within one pass: an instance gone frees a job, a machine ready takes one


class Engine:
    """`config_for` gives the agent's configuration of an instance that is about to be launched."""

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
    ) -> None:
        self._store = store
        self._clock = clock
        self._policy = policy
        self.observed = Observed(providers, clock, policy)
        self.market = Marketplace(providers, store, clock, policy, default_providers)
        self.desk = EngineDesk(store, self.observed, self.market, clock)
        actor = Actor(store, providers, clock, policy, self.observed, self.market, self.desk, config_for)
        self._reconciler = Reconciler(
            store, providers, clock, policy, self.observed, self.market, self.desk, actor, holder
        )
        self._attempts = Attempts(store, self.observed, self.desk, clock)
        self._queue = Queue(store, self.market, self.desk, clock, policy, rng)
        self._collector = Collector(store, providers, clock, policy, self.observed)
        self._last_busy: dict[str, datetime] = {}
        self._collected_at = clock.now()

    async def run(self) -> None:
        """Passes until cancelled."""
        while True:
            self.desk.woken.clear()
            due = await self.run_pass()
            nap_s = max(0.0, min(_LONGEST_NAP_S, (due - self._clock.now()).total_seconds()))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.desk.woken.wait(), nap_s)

    async def run_pass(self) -> datetime:
        """Everything that is due now; when the next thing is."""
        self.observed.began_pass()
        for _ in range(_ROUNDS):
            if not await self._round():
                break
        await self._collect()
        self.desk.last_pass_at = self._clock.now()
        due = await self._store.instances.due()
        return min(filter(None, (due, self.desk.last_pass_at + timedelta(seconds=_LONGEST_NAP_S))))

    async def _round(self) -> bool:
        """One look at everything; whether something moved, so that another look is worth while."""
        poked, self.desk.poked = self.desk.poked, set()
        live_instances = {i.id: i for i in await self._store.instances.find()}
        await self.observed.refresh({i.offer.provider for i in live_instances.values()})
        live = await self._store.jobs.live_attempts()
        running = {job.id: job for job in await self._running(live)}
        freed = await self._attempts.look(live, live_instances, running)
        now = self._clock.now()
        if freed:
            self._last_busy.update(dict.fromkeys(freed, now))
            live = await self._store.jobs.live_attempts()
        scene = Scene(live, await self._store.jobs.waiting(), self._busy_times(live_instances))
        moved = await self._reconciler.run(scene, poked | freed)
        if scene.waiting:
            live_instances = {i.id: i for i in await self._store.instances.find()}
            busy = {attempt.instance_id for attempt in live}
            moved |= await self._queue.serve(scene.waiting, live_instances, busy, self.observed.reports)
        return moved or bool(freed)

    async def _running(self, live: list[Any]) -> list[Any]:
        return await self._store.jobs.find(phases=(JobPhase.RUNNING,), limit=100_000) if live else []

    def _busy_times(self, live: Mapping[str, Instance]) -> dict[str, datetime]:
        """A controller that has just started does not know when a machine was last busy: it begins to count then."""
        for gone in self._last_busy.keys() - live.keys():
            del self._last_busy[gone]
        for instance in live.values():
            if instance.ready_at is not None and instance.ready_at < self.observed.listening_since:
                self._last_busy.setdefault(instance.id, self.observed.listening_since)
        return self._last_busy

    async def _collect(self) -> None:
        now = self._clock.now()
        if now - self._collected_at >= timedelta(seconds=self._policy.collect_every_s) or now < self._collected_at:
            self._collected_at = now
            await self._collector.collect()

    async def collect_now(self, *, dry_run: bool = False, expired: bool = False) -> dict[str, list[str]]:
        """`runner gc`: fresh listings twice, and no share."""
        for name in {provider for provider, _ in self.observed.listings} or {"local"}:
            self.observed.want(name)
        await self.observed.refresh(set())
        found, ended = await self._collector.collect(all_at_once=True, dry_run=dry_run)
        return {"found": found, "ended": ended}
