"""Giving waiting jobs machines: an idle one that fits, else a new one planned on the best offer, else a reason.

A job whose machine has been announced to end is served as well: its next machine is planned while it still runs.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from decimal import Decimal
from functools import cached_property

from provisioner.domain.errors import Conflict, OverBudget, StaleWrite
from provisioner.domain.facts import Report
from provisioner.domain.ids import instance_name, new_id
from provisioner.domain.job import CiOrigin, Instance, InstancePhase, Job, JobPhase, Need, Outcome, Reason, Why
from provisioner.domain.offer import Offer
from provisioner.domain.place import Ladder, beside, ceilings
from provisioner.domain.policy import Policy
from provisioner.domain.pools import NAMED, Pool, job_name_of
from provisioner.domain.ports import Clock
from provisioner.domain.reruns import taken_away
from provisioner.domain.store import Store

from .desk import EngineDesk
from .market import Marketplace
from .scene import Scene, fits

_UNDER_WAY = (InstancePhase.PLANNED, InstancePhase.LAUNCHING, InstancePhase.BOOTING)
_SERVED = 100  # arbitrary: in one go, so that the first of many jobs need not wait until the last has a plan
_WAITS = frozenset({Why.NO_CAPACITY, Why.BUDGET, Why.FORGE})
_TOLD_S = 60.0  # arbitrary: a budget's figures change with every machine that ends, and each of many that wait is told


class Queue:
    """One pass over the waiting jobs, in their fair order. `blocked` says why nothing is to be rented for one yet;
    `allowed` is what a CI run's policy allows by now, where it may have been changed since; machines of `pools` are
    counted when one is planned."""

    def __init__(
        self,
        store: Store,
        market: Marketplace,
        desk: EngineDesk,
        clock: Clock,
        policy: Policy,
        rng: random.Random,
        blocked: Callable[[Job], str],
        allowed: Callable[[CiOrigin], CiOrigin] | None = None,
        pools: Sequence[Pool] = (),
    ) -> None:
        self._store = store
        self._market = market
        self._desk = desk
        self._clock = clock
        self._policy = policy
        self._rng = rng
        self._blocked = blocked
        self._allowed = allowed
        self._most = {pool.job_name: pool.max for pool in pools}
        self._told: dict[Hashable, tuple[str, float]] = {}

    async def serve(self, scene: Scene, live: Mapping[str, Instance], reports: Mapping[str, Report]) -> bool:
        """Whether anything was assigned or planned."""
        turn = _Turn(scene, live, reports)
        moved = 0
        for job in (*scene.waiting, *scene.interrupted):
            if turn.has_its_due(job):
                continue
            try:
                moved += await self._serve_one(job, turn)
            except (StaleWrite, Conflict):
                self._desk.poke()
            if moved >= _SERVED:
                self._desk.poke()
                break
        return moved > 0

    async def _serve_one(self, job: Job, turn: _Turn) -> bool:
        if job.phase is JobPhase.QUEUED:
            if job.cancel_asked_at is not None:
                await self._cancel(job)
                return True
            if (instance := turn.take_idle(job)) is not None:
                await self._assign(job, instance)
                return True
        if job.id in turn.planned_for or turn.take_coming(job) or turn.full(job, self._most):
            return False
        return await self._plan(job, turn)

    async def _cancel(self, job: Job) -> None:
        reason = Reason(Why.CANCELLED, "cancelled while it waited")
        await self._store.jobs.finish(job, Outcome.CANCELLED, reason, self._clock.now())

    async def _assign(self, job: Job, instance: Instance) -> None:
        """A machine planned for another job is that one's no longer: it may plan anew."""
        if instance.planned_for not in ("", job.id):
            instance = await self._store.instances.update(instance, planned_for="")
        self._desk.assigned(await self._store.jobs.assign(job, instance, self._clock.now()))

    async def _plan(self, job: Job, turn: _Turn) -> bool:
        if why_not := self._blocked(job):
            await self._explain(job, Reason(Why.FORGE, why_not))
            return False
        ladder = await self._ladder(job, turn)
        if (offer := ladder.best) is None:
            await self._unplaced(job, ladder)
            return False
        for ceiling in ceilings(job.spec.need, offer):
            if not (refused := await self._refused(job, offer, ceiling, turn)):
                break
        if refused:
            await self._explain(job, Reason(Why.BUDGET, self._worded(job, refused)))
            return False
        turn.planned(job, offer)
        if job.reason.why in _WAITS:
            await self._explain(job, Reason(Why.NONE, f"a machine is planned: {offer}"))
        return True

    async def _refused(self, job: Job, offer: Offer, ceiling: Decimal, turn: _Turn) -> str:
        """Plan it under that ceiling; why the caps forbid it, or nothing."""
        origin = self._origin(job)
        if said := turn.known_refusal(_capped_as(job, origin), ceiling):
            return said
        try:
            await self._store.instances.plan(
                self._instance(job, offer),
                max_instances=self._policy.max_instances,
                max_usd_per_hour=self._policy.max_usd_per_hour,
                reserve_usd_per_hour=ceiling,
                origin=origin,
                overtime_s=self._policy.deadman_bound_s,
            )
        except OverBudget as error:
            turn.over_budget[_capped_as(job, origin)] = (ceiling, error.line)
            return error.line
        return ""

    def _origin(self, job: Job) -> CiOrigin | None:
        origin = job.spec.origin
        return self._allowed(origin) if origin is not None and self._allowed is not None else origin

    def _worded(self, job: Job, refused: str) -> str:
        """In the words of a moment ago, if a budget refuses it."""
        if (origin := self._origin(job)) is None or origin.budget is None:
            return refused
        now_s = self._clock.monotonic()
        self._told = {key: told for key, told in self._told.items() if told[1] > now_s}
        return self._told.setdefault(_capped_as(job, origin), (refused, now_s + _TOLD_S))[0]

    async def _unplaced(self, job: Job, ladder: Ladder) -> None:
        text = _refusals(ladder)
        if job.phase is JobPhase.RUNNING or not ladder.impossible:
            await self._explain(job, Reason(Why.NO_CAPACITY, text))
        elif ladder.over_budget:
            await self._store.jobs.finish(job, Outcome.OVER_BUDGET, Reason(Why.BUDGET, text), self._clock.now())
        else:
            await self._store.jobs.finish(job, Outcome.IMPOSSIBLE, Reason(Why.IMPOSSIBLE, text), self._clock.now())

    async def _explain(self, job: Job, reason: Reason) -> None:
        if job.phase is JobPhase.QUEUED:
            await self._store.jobs.explain(job, reason, self._clock.now())

    async def _ladder(self, job: Job, turn: _Turn) -> Ladder:
        """One for all jobs of the same need in this pass. On-demand after interruptions, where there is any."""
        for force in (True, False) if await self._interrupted_often(job) else (False,):
            key = (job.spec.need, force)
            if key not in turn.ladders:
                ladder = await self._market.ladder(job.spec.need, force_on_demand=force)
                turn.ladders[key] = beside(ladder, turn.ours)
            if turn.ladders[key].best is not None:
                break
        return turn.ladders[key]

    def _instance(self, job: Job, offer: Offer) -> Instance:
        now = self._clock.now()
        key = new_id("i", now, self._rng.getrandbits)
        spec = job.spec
        return Instance(
            id=key,
            name=instance_name(key),
            owner=job.tenant,
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
        if job.spec.runner is not None and job.spec.runner.on_demand:
            return True
        if job.attempts == 0:
            return False
        attempts = await self._store.jobs.attempts(job.id)
        reruns = await self._store.reruns.of_job(job.id) if job.spec.runner is not None else []
        interruptions = taken_away(job, attempts, reruns) + (job.phase is JobPhase.RUNNING)
        return interruptions >= self._policy.on_demand_after_interruptions


class _Turn:
    """What one pass over the queue still has to give; most passes have no job that asks for all of it."""

    def __init__(self, scene: Scene, live: Mapping[str, Instance], reports: Mapping[str, Report]) -> None:
        self._free = [i for i in live.values() if i.id not in scene.busy and i.stop_asked_at is None]
        self._idle = [i for i in self._free if _takes_work(i, reports.get(i.id))]
        self._scene, self._live, self._reports = scene, live, dict(reports)  # as they are now
        self.planned_for = {i.planned_for for i in live.values() if i.planned_for}
        self.ladders: dict[tuple[Need, bool], Ladder] = {}
        self.over_budget: dict[Hashable, tuple[Decimal, str]] = {}

    @cached_property
    def ours(self) -> Counter[str]:
        """How many machines there are of each offer."""
        return Counter(i.offer.key for i in self._live.values())

    @cached_property
    def _coming(self) -> list[Instance]:
        wanting = {job.id for job in (*self._scene.waiting, *self._scene.interrupted)}
        return [
            i
            for i in self._free
            if (i.phase in _UNDER_WAY and i.planned_for not in wanting) or _soon_takes_work(i, self._reports.get(i.id))
        ]

    @cached_property
    def _of_pools(self) -> Counter[str]:
        return Counter(job_name_of(i.owner) for i in self._live.values() if i.owner.startswith(NAMED))

    def full(self, job: Job, most: Mapping[str, int]) -> bool:
        """Whether its pool has as many machines as it may, those included that are about to go: the one that its runner
        had before may be among them."""
        return job.spec.name in most and self._of_pools[job.spec.name] >= most[job.spec.name]

    def planned(self, job: Job, offer: Offer) -> None:
        self.planned_for.add(job.id)
        self.ours[offer.key] += 1
        if job.spec.name.startswith(NAMED):
            self._of_pools[job.spec.name] += 1
        if offer.most is not None:
            self.ladders = {key: beside(ladder, self.ours) for key, ladder in self.ladders.items()}

    def known_refusal(self, capped_as: Hashable, ceiling: Decimal) -> str:
        """What forbade one as dear under the caps of all, or of this one's origin; "" when nothing did yet."""
        for key in (None, capped_as):
            least, said = self.over_budget.get(key, (None, ""))
            if least is not None and ceiling >= least:
                return said
        return ""

    def has_its_due(self, job: Job) -> bool:
        """Its machine comes and no other is there: of many that wait, most."""
        return not self._idle and job.id in self.planned_for and job.cancel_asked_at is None

    def take_idle(self, job: Job) -> Instance | None:
        """Its own machine first, else any that fits."""
        return self._take(job, self._idle)

    def take_coming(self, job: Job) -> Instance | None:
        """One that nobody else waits for and that will soon take work, so that no other need be planned."""
        return self._take(job, self._coming)

    def _take(self, job: Job, pool: list[Instance]) -> Instance | None:
        found, tenant = next((i for i in pool if i.planned_for == job.id), None), job.tenant
        if found is None or not fits(tenant, job.spec.need, found):
            found = next((i for i in pool if fits(tenant, job.spec.need, i)), None)
        if found is not None:
            pool.remove(found)
        return found


def _capped_as(job: Job, origin: CiOrigin | None) -> Hashable:
    """Jobs with the same one are refused alike; None: by nothing but the caps of all."""
    if origin is None:
        return None
    return origin.scope, origin.max_instances, origin.max_usd_per_hour, origin.budget, job.spec.max_lifetime_s


def _takes_work(instance: Instance, report: Report | None) -> bool:
    if instance.phase is not InstancePhase.READY or report is None:
        return False
    return report.healthy and not report.notice and not report.attempts


def _soon_takes_work(instance: Instance, report: Report | None) -> bool:
    """Ready, and either not heard since this controller began to listen, or still clearing up after an attempt."""
    if instance.phase is not InstancePhase.READY:
        return False
    return report is None or (report.healthy and not report.notice and bool(report.attempts))


def _refusals(ladder: Ladder) -> str:
    """The reasons, each once, in the order of the ladder. One that names the provider is that of all of its offers."""
    reasons = dict.fromkeys(
        rung.refused
        if rung.refused.startswith(f"{rung.offer.provider} is paused")
        else f"{rung.offer.provider} {rung.offer.instance_type}: {rung.refused}"
        for rung in ladder.rungs
    )
    return "; ".join([*ladder.unanswered, *reasons][:5]) or "no provider has any offer"
