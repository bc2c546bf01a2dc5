"""Each instance that is due: its facts, one decision, its effect, until there is nothing to do but wait.

Instances are worked on at the same time, each under its own claim. A pass waits for them for a moment only: what takes
longer, such as a cloud that is slow to answer, goes on beside the passes that follow, and is settled by a later one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from provisioner.domain.decide import Wait, decide
from provisioner.domain.errors import StaleWrite, StoreError
from provisioner.domain.facts import Facts
from provisioner.domain.job import Instance, InstancePhase
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock, Provider
from provisioner.domain.store import Claim, Event, Store
from provisioner.domain.urgency import urgently

from .act import Actor
from .desk import EngineDesk
from .market import Marketplace
from .observe import Observed
from .scene import Scene

_log = structlog.get_logger()
_AT_ONCE = 256  # effects in flight; providers pace themselves
_LAUNCHING = (InstancePhase.PLANNED, InstancePhase.LAUNCHING)  # those that wait for their turn there hold up no other
_STEPS = 6  # phases that one instance may pass in one go
_PATIENCE_S = 0.05  # what a pass waits for effects before it goes on without them
_LISTINGS_MISSED = 6
_RENEWALS = 3  # arbitrary: of a lease, within its time
_SCENE_AGES_S = 1.0  # a decision is not taken on demand that was read longer ago


@dataclass
class _Work:
    """One claim being worked on. `again`: something was heard meanwhile, so look once more."""

    fence: int
    task: asyncio.Task[tuple[datetime, bool]]
    again: bool = False


class Reconciler:
    """`run` works on what is due or poked; what raises is recorded and tried later, and the others go on."""

    def __init__(
        self,
        store: Store,
        providers: Mapping[str, Provider],
        clock: Clock,
        policy: Policy,
        observed: Observed,
        market: Marketplace,
        desk: EngineDesk,
        actor: Actor,
        holder: str,
    ) -> None:
        self._store = store
        self._providers = providers
        self._clock = clock
        self._policy = policy
        self._observed = observed
        self._market = market
        self._desk = desk
        self._actor = actor
        self._holder = holder
        self._limits = {launching: asyncio.Semaphore(_AT_ONCE) for launching in (False, True)}
        self._at_work: dict[str, _Work] = {}
        self._stumbles: dict[str, int] = {}
        self._renewed_s = clock.monotonic()

    async def run(self, scene: Scene, poked: set[str]) -> bool:
        """Whether any instance moved."""
        moved = await self._settle_finished()
        await self._renew()
        for key in poked & self._at_work.keys():
            self._at_work[key].again = True
        claims = await self._store.instances.claim(
            self._holder,
            self._clock.now(),
            limit=10_000,
            lease_s=self._policy.lease_s,
            only=poked - self._at_work.keys(),
        )
        started = [self._start(claim, scene) for claim in claims if claim.instance.id not in self._at_work]
        if started:
            await self._desk.pause(started, _PATIENCE_S)
            moved |= await self._settle_finished()
        return moved

    async def _renew(self) -> None:
        """What is still at work, or waits for its turn, stays ours."""
        now_s = self._clock.monotonic()
        if now_s - self._renewed_s < self._policy.lease_s / _RENEWALS:
            return
        self._renewed_s = now_s
        fences = {key: work.fence for key, work in self._at_work.items()}
        await self._store.instances.renew(fences, self._clock.now(), lease_s=self._policy.lease_s)

    def _start(self, claim: Claim, scene: Scene) -> asyncio.Task[tuple[datetime, bool]]:
        task = asyncio.create_task(self._limited(claim, scene), name=f"reconcile {claim.instance.id}")
        self._at_work[claim.instance.id] = _Work(claim.fence, task)
        return task

    async def _settle_finished(self) -> bool:
        """Give back what is finished. Raises: what made a worker unable to go on at all (the store)."""
        finished = {key: work for key, work in self._at_work.items() if work.task.done()}
        due, moved = {}, False
        for key, work in finished.items():
            del self._at_work[key]
            at, stepped = work.task.result()
            moved |= stepped
            due[key] = (work.fence, self._clock.now() if work.again else at)
        await self._store.instances.settle(due)
        return moved

    async def _limited(self, claim: Claim, scene: Scene) -> tuple[datetime, bool]:
        with urgently(False):
            async with self._limits[claim.instance.phase in _LAUNCHING]:
                return await self._one(claim, scene)

    async def _one(self, claim: Claim, scene: Scene) -> tuple[datetime, bool]:
        instance, moved, began_s = claim.instance, False, self._clock.monotonic()
        try:
            for _ in range(_STEPS):
                self._observed.keep_time()
                action = decide(self._facts(instance, scene), self._clock.now(), self._policy)
                if isinstance(action, Wait):
                    self._stumbles.pop(instance.id, None)
                    return self._no_later(action.until), moved
                before = instance.phase
                instance, again_at = await self._actor.do(action, instance, claim.fence)
                moved |= instance.phase is not before
                if again_at is not None:
                    return again_at, moved
                if self._clock.monotonic() - began_s > _SCENE_AGES_S:
                    break
        except StaleWrite:
            return self._clock.now(), True
        except StoreError:
            raise
        except Exception as error:
            return await self._stumbled(instance, error), moved
        return self._clock.now(), moved

    def _facts(self, instance: Instance, scene: Scene) -> Facts:
        provider = self._providers.get(instance.offer.provider)
        return Facts(
            instance=instance,
            machine=self._observed.sighting(instance),
            report=self._observed.reports.get(instance.id),
            demand=scene.demand(instance),
            listening_since=self._observed.silent_from,
            visibility_s=provider.visibility_s if provider else 0.0,
            creates_paused=provider is None or instance.offer.provider in self._market.paused,
            skipped=self._observed.skipped,
            heard_elsewhere=self._observed.elsewhere.get(instance.id),
        )

    def _no_later(self, until: datetime) -> datetime:
        """Whatever is heard, listed or wanted anew makes an instance due; this is for what was missed."""
        return min(until, self._clock.now() + timedelta(seconds=_LISTINGS_MISSED * self._policy.list_every_s))

    async def _stumbled(self, instance: Instance, error: Exception) -> datetime:
        """That item stops loudly, the others go on."""
        times = self._stumbles[instance.id] = self._stumbles.get(instance.id, 0) + 1
        _log.error("instance.stumbled", instance=instance.id, times=times, error=repr(error), exc_info=error)
        now = self._clock.now()
        if times == 1:
            await self._store.records.record(Event("instance.stumbled", now, repr(error), instance_id=instance.id))
        return now + timedelta(seconds=self._policy.pause_s(times))

    async def close(self) -> None:
        """End what is under way. Nothing is lost: the rows say what was intended."""
        tasks = [work.task for work in self._at_work.values()]
        self._at_work.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
