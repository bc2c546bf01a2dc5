"""Giving waiting jobs machines: an idle one that fits, else a new one planned on the best offer, else a reason."""

from __future__ import annotations

import random
from collections.abc import Mapping
from decimal import Decimal

from provisioner.domain.errors import Conflict, OverBudget, StaleWrite
from provisioner.domain.facts import Report
from provisioner.domain.ids import instance_name, new_id
from provisioner.domain.job import Instance, InstancePhase, Job, Outcome, Reason, Why
from provisioner.domain.offer import Offer
from provisioner.domain.place import Ladder, unfit
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock, Store

from .desk import EngineDesk
from .market import Marketplace


def fits(job: Job, instance: Instance) -> bool:
    """Whether `instance` could do this job: large enough, and never another owner's."""
    return instance.owner == job.owner and not unfit(job.spec.need, instance.offer)


class Queue:
    """One pass over the waiting jobs, in their fair order."""

    def __init__(
        self,
        store: Store,
        market: Marketplace,
        desk: EngineDesk,
        clock: Clock,
        policy: Policy,
        rng: random.Random,
    ) -> None:
        self._store = store
        self._market = market
        self._desk = desk
        self._clock = clock
        self._policy = policy
        self._rng = rng

    async def serve(
        self, waiting: list[Job], live: Mapping[str, Instance], busy: set[str], reports: Mapping[str, Report]
    ) -> bool:
        """Whether anything was assigned or planned."""
        idle = [i for i in live.values() if i.id not in busy and _takes_work(i, reports)]
        planned_for = {i.planned_for for i in live.values() if i.planned_for}
        moved = False
        for job in waiting:
            try:
                if job.cancel_asked_at is not None:
                    await self._cancel(job)
                elif (instance := next((i for i in idle if fits(job, i)), None)) is not None:
                    idle.remove(instance)
                    await self._store.jobs.assign(job, instance, self._clock.now())
                    self._desk.touch(instance.id)
                    moved = True
                elif job.id not in planned_for:
                    moved |= await self._plan(job)
            except (StaleWrite, Conflict):
                self._desk.poke()
        return moved

    async def _cancel(self, job: Job) -> None:
        reason = Reason(Why.CANCELLED, "cancelled while it waited")
        await self._store.jobs.finish(job, Outcome.CANCELLED, reason, self._clock.now())

    async def _plan(self, job: Job) -> bool:
        ladder = await self._market.ladder(job.spec.need, force_on_demand=await self._interrupted_often(job))
        now = self._clock.now()
        if (offer := ladder.best) is None:
            reason = Reason(Why.IMPOSSIBLE if ladder.impossible else Why.NO_CAPACITY, _refusals(ladder))
            if ladder.impossible:
                await self._store.jobs.finish(job, Outcome.IMPOSSIBLE, reason, now)
            else:
                await self._store.jobs.explain(job, reason, now)
            return False
        try:
            await self._store.instances.plan(
                self._instance(job, offer),
                max_instances=self._policy.max_instances,
                max_usd_per_hour=self._policy.max_usd_per_hour,
                reserve_usd_per_hour=_ceiling(job, offer),
            )
        except OverBudget as error:
            await self._store.jobs.explain(job, Reason(Why.BUDGET, error.message), now)
            return False
        return True

    def _instance(self, job: Job, offer: Offer) -> Instance:
        now = self._clock.now()
        key = new_id("i", now, self._rng.getrandbits)
        spec = job.spec
        return Instance(
            id=key,
            name=instance_name(key),
            owner=job.owner,
            phase=InstancePhase.PLANNED,
            offer=offer,
            created_at=now,
            phase_at=now,
            planned_for=job.id,
            idle_timeout_s=spec.idle_timeout_s,
            max_lifetime_s=spec.max_lifetime_s or self._policy.lifetime_default_s,
            image=spec.need.image,
            disk_gib=spec.need.disk_gib,
        )

    async def _interrupted_often(self, job: Job) -> bool:
        if job.attempts == 0:
            return False
        attempts = await self._store.jobs.attempts(job.id)
        interruptions = sum(attempt.reason.why is Why.PREEMPTED for attempt in attempts)
        return interruptions >= self._policy.on_demand_after_interruptions


def _takes_work(instance: Instance, reports: Mapping[str, Report]) -> bool:
    if instance.phase is not InstancePhase.READY or instance.stop_asked_at is not None:
        return False
    report = reports.get(instance.id)
    return report is not None and report.healthy and not report.notice and not report.attempts


def _ceiling(job: Job, offer: Offer) -> Decimal:
    """What an hour may cost at most; `place` lets an unknown price through only under a ceiling."""
    if offer.usd_per_hour is not None:
        return offer.usd_per_hour
    return job.spec.need.max_price or Decimal(0)


def _refusals(ladder: Ladder) -> str:
    """The reasons, each once, in the order of the ladder."""
    reasons = dict.fromkeys(
        f"{rung.offer.provider} {rung.offer.instance_type}: {rung.refused}" for rung in ladder.rungs
    )
    return "; ".join(list(reasons)[:5]) or "no provider has any offer"
