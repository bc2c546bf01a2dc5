"""Each instance that is due: its facts, one decision, its effect, until there is nothing to do but wait."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from provisioner.domain.decide import Wait, decide
from provisioner.domain.errors import StaleWrite
from provisioner.domain.facts import Demand, Facts
from provisioner.domain.job import Attempt, Instance, InstancePhase, Job
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Claim, Clock, Event, Provider, Store

from .act import Actor
from .desk import EngineDesk
from .market import Marketplace
from .observe import Observed
from .queue import fits

_log = structlog.get_logger()
_AT_ONCE = 64  # effects in flight; providers pace themselves
_STEPS = 5  # phases that one instance may pass in one pass


@dataclass
class Scene:
    """What one pass knows of demand."""

    live: list[Attempt]
    waiting: list[Job]
    last_busy: dict[str, datetime] = field(default_factory=dict)

    def demand(self, instance: Instance) -> Demand:
        return Demand(
            live_attempts=sum(attempt.instance_id == instance.id for attempt in self.live),
            waiting=sum(fits(job, instance) for job in self.waiting if job.cancel_asked_at is None),
            planned_for_waits=any(j.id == instance.planned_for and j.cancel_asked_at is None for j in self.waiting),
            last_busy_at=self.last_busy.get(instance.id),
        )


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

    async def run(self, scene: Scene, poked: set[str]) -> bool:
        """Whether any instance moved."""
        claims = await self._store.instances.claim(
            self._holder, self._clock.now(), limit=10_000, lease_s=self._policy.lease_s, only=poked
        )
        if not claims:
            return False
        limit = asyncio.Semaphore(_AT_ONCE)

        async def one(claim: Claim) -> tuple[datetime, bool]:
            async with limit:
                return await self._one(claim, scene)

        results = await asyncio.gather(*(one(claim) for claim in claims))
        due = {claim.instance.id: (claim.fence, at) for claim, (at, _) in zip(claims, results, strict=True)}
        await self._store.instances.settle(due)
        return any(moved for _, moved in results)

    async def _one(self, claim: Claim, scene: Scene) -> tuple[datetime, bool]:
        instance, moved = claim.instance, False
        try:
            for _ in range(_STEPS):
                action = decide(self._facts(instance, scene), self._clock.now(), self._policy)
                if isinstance(action, Wait):
                    return self._no_later(instance, action.until), moved
                before = instance.phase
                instance, again_at = await self._actor.do(action, instance, claim.fence)
                moved |= instance.phase is not before
                if again_at is not None:
                    return again_at, moved
        except StaleWrite:
            return self._clock.now(), True
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
            listening_since=self._observed.listening_since,
            visibility_s=provider.visibility_s if provider else 0.0,
            creates_paused=provider is None or instance.offer.provider in self._market.paused,
        )

    def _no_later(self, instance: Instance, until: datetime) -> datetime:
        """What the cloud says is looked at again with every listing, whatever else there is to wait for."""
        if instance.phase is InstancePhase.GONE:
            return until
        return min(until, self._clock.now() + timedelta(seconds=self._policy.list_every_s))

    async def _stumbled(self, instance: Instance, error: Exception) -> datetime:
        """That item stops loudly, the others go on."""
        _log.error("instance.stumbled", instance=instance.id, error=repr(error), exc_info=error)
        now = self._clock.now()
        await self._store.records.record(Event("instance.stumbled", now, repr(error), instance_id=instance.id))
        return now + timedelta(seconds=self._policy.retry_backoff_max_s / 10)
