"""Demand for CI runners: what every source tells becomes rows, rows become counts, counts become jobs of ours.

A loop beside the engine's passes, woken by whatever is news. It only submits `ci-runner` jobs and asks for the end of
some: machines, money and runners' records are the spine's business, as for any other job.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from provisioner.domain.demand import Believed, PoolShown, Redelivers, Source, Waiting
from provisioner.domain.errors import ForgeError
from provisioner.domain.forge import CiJob, CiJobState, Delivery, Forges, Site, runner_site
from provisioner.domain.ids import new_id
from provisioner.domain.job import Job, JobPhase, JobSpec, RunnerSpec
from provisioner.domain.job_queue import OpensQueue
from provisioner.domain.policy import Policy
from provisioner.domain.pools import NAMED, Ask, Key, Pool, Sorted, Supply, owner_of, sort_out, supply, untaken
from provisioner.domain.ports import Clock
from provisioner.domain.store import Event, Store
from provisioner.domain.urgency import urgently

from .brake import Brakes
from .crew import Crew, Told, look
from .desk import EngineDesk
from .intake import Intake
from .losses import Losses
from .observe import Observed
from .origins import Origins
from .polls import Polls
from .pool_view import shown
from .queues import Queues
from .runners import Runners
from .takings import Takings

_log = structlog.get_logger()
_NAP_S = 2.0  # what agents say of their runners is seen by then
_TOGETHER_S = 0.05  # arbitrary: of a burst of webhooks, those that come within it are looked at together
_KEPT = timedelta(days=4)  # Source: reference "forges", 2.1.5: GitHub can send a webhook again for three days
_PRUNE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Look:
    """All that one turn goes by."""

    believed: Believed
    sorted: Sorted
    crews: Mapping[str, Crew]
    supplies: Mapping[str, Supply]
    again: frozenset[Key] = frozenset()


class PoolDemand:
    """The Demand port. `redelivers`: forges that send lost webhooks again, by what they are called. `queues`: of pools
    that have one, by the pool's name. `alone`: no other controller, with pools of its own perhaps, shares the store."""

    def __init__(
        self,
        *,
        store: Store,
        forges: Forges,
        observed: Observed,
        runners: Runners,
        desk: EngineDesk,
        clock: Clock,
        policy: Policy,
        rng: random.Random,
        pools: Sequence[Pool] = (),
        redelivers: Mapping[str, Redelivers] | None = None,
        queues: Mapping[str, OpensQueue] | None = None,
        alone: bool = True,
    ) -> None:
        self._store = store
        self._observed = observed
        self._runners = runners
        self._desk = desk
        self._clock = clock
        self._policy = policy
        self._rng = rng
        self.pools = tuple(pools)
        self._alone = alone
        self._redelivers = dict(redelivers or {})
        self._news = asyncio.Event()
        self._sites = {site: pool for pool in self.pools for site in pool.sites}
        self._kinds = {site.base: site.kind for site in self._sites}
        self._polls = Polls(store, forges, clock, policy, list(self._sites), self._relevant, self._news.set)
        hurry = self._polls.hurry
        self._queues = Queues(store, queues or {}, self.pools, clock, policy, self._relevant, hurry, self._news.set)
        self._origins = Origins(store, forges, clock, policy, self._news.set)
        self._intake = Intake(store, clock)
        self._losses = Losses(store, policy)
        self._takings = Takings(store, self._polls, clock)
        self._brakes = Brakes(store, clock, policy)
        self._places: dict[tuple[str, str], Site] = {}
        self._look: Look | None = None
        self._heard_s: float | None = None
        self._asked: dict[str, tuple[float | None, str]] = dict.fromkeys(self._redelivers, (None, ""))

    async def run(self) -> None:
        """Until cancelled. Without pools there is nothing to do but to let go of what former ones have left."""
        if self._alone:
            await self._let_go()
        if not self.pools:
            return
        for site in self._sites:
            self._runners.sites.want(site)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._polls.run(), name="polls")
                group.create_task(self._queues.run(), name="queues")
                group.create_task(self._redeliver(), name="redelivery")
                group.create_task(self._prune(), name="prune")
                while True:
                    self._news.clear()
                    await self.turn()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._news.wait(), _NAP_S)
                        await self._clock.sleep(_TOGETHER_S)
        finally:
            await self._origins.close()

    async def _let_go(self) -> None:
        """Runners of pools that the settings do not have any more; one that has a job stays until that has ended."""
        known, now = {pool.job_name for pool in self.pools}, self._clock.now()
        for job in await self._store.jobs.find(phases=(JobPhase.QUEUED, JobPhase.RUNNING), limit=1_000_000):
            if job.spec.kind == "ci-runner" and job.spec.name.startswith(NAMED) and job.spec.name not in known:
                await self._store.jobs.ask_cancel(job.id, now)

    # What comes in

    async def take(self, delivery: Delivery) -> bool:
        self._heard_s = self._clock.monotonic()
        facts = delivery.facts
        self._polls.heard(delivery.job.site.base if delivery.job is not None else facts.get("base", ""))
        if delivery.event == "workflow_run" and facts.get("fork") in ("yes", "no"):
            self._origins.told(facts["base"], facts["repository"], facts["id"], facts["fork"] == "yes")
            self._news.set()
        job = delivery.job or self._hinted(facts)
        if job is None or not self._relevant(job):
            return True
        fresh = await self._intake.take(delivery.id, [self._origins.known(job)])
        if fresh:
            self._news.set()
        return fresh

    def _hinted(self, facts: Mapping[str, str]) -> CiJob | None:
        """A job of which a webhook tells no more than that it waits."""
        kind = self._kinds.get(facts.get("base", ""))
        if kind is None or not facts.get("job") or not facts.get("repository"):
            return None
        site = Site(kind, facts["base"], facts["repository"])
        return CiJob(facts["job"], site, facts["repository"], CiJobState.QUEUED, (), self._clock.now())

    def _relevant(self, job: CiJob) -> bool:
        """Whether a pool could serve it, as far as is known: one that is none of ours is not kept."""
        return any(pool.suits(job) or (not job.labels and pool.site_of(job)) for pool in self.pools)

    # What comes of it

    async def turn(self) -> None:
        """Look, and close the difference."""
        with urgently():
            await self._turn()

    async def _turn(self) -> None:
        found = self._look = await self._looked()
        self._polls.active = self._active(found)
        for job, why in found.sorted.refused:
            await self._refuse(job, why)
        self._origins.ask(found.sorted.untold, self._narrowest)
        moved = False
        for pool in self.pools:
            await self._brakes.look(pool, found.crews[pool.name].jobs)
            moved |= await self._close(pool, found)
        if moved:
            self._desk.poke()

    async def _looked(self) -> Look:
        now = self._clock.now()
        believed = await self._store.ci_jobs.believed([pool.name for pool in self.pools], now)
        told = Told(self._runners.of_attempts(), self._observed.reports, self._policy.boot_timeout_s)
        crews = look(self.pools, believed, told, self._site_of, now)
        taken = await self._takings.still(one for crew in crews.values() for one in crew.began)
        found = sort_out(self.pools, untaken((known.job for known in believed.waiting), taken))
        again = await self._losses.among([job for jobs in found.by_pool.values() for job in jobs])
        supplies = {}
        for pool in self.pools:
            crew = crews[pool.name]
            supplies[pool.name] = supply(pool, found.by_pool[pool.name], crew.runners, crew.machines, now, again)
        return Look(believed, found, crews, supplies, again)

    async def _close(self, pool: Pool, found: Look) -> bool:
        """Whether anything was submitted or asked to end."""
        ought, now = found.supplies[pool.name], self._clock.now()
        for job_id in ought.retire:
            await self._store.jobs.ask_cancel(job_id, now)
        if ought.retire:
            await self._tell("pool.shrank", pool, f"{len(ought.retire)} too many", len(ought.retire))
        asks = () if self._brakes.hold(pool) else ought.launch
        made = found.believed.made[pool.name]
        fresh = [self._job(pool, ask, number) for number, ask in enumerate(asks)]
        count = await self._store.ci_jobs.submit(pool.name, fresh, made=made, at_most=pool.max) if fresh else 0
        if count:
            self._brakes.submitted(pool, (job.id for job in fresh[:count]))
            of = Counter(ask.repository or "nobody yet" for ask in asks[:count])
            await self._tell("pool.grew", pool, ", ".join(f"{n} for {name}" for name, n in of.items()), count)
        return bool(count or ought.retire)

    def _job(self, pool: Pool, ask: Ask, number: int) -> Job:
        """A microsecond apart, so that those submitted together are served in their order."""
        now = self._clock.now() + timedelta(microseconds=number)
        key = new_id("j", now, self._rng.getrandbits)
        life_s = pool.max_lifetime_s or self._policy.lifetime_default_s
        at = ask.site
        runner = RunnerSpec(
            at.url,
            str(at.kind),
            pool.labels,
            group=pool.group,
            idle_s=life_s,
            base=at.below,
            scale_set=pool.scale_set,
            on_demand=ask.on_demand,
        )
        spec = JobSpec(
            run=(),
            name=pool.job_name,
            kind="ci-runner",
            need=pool.need,
            max_lifetime_s=pool.max_lifetime_s,
            runner=runner,
        )
        return Job(key, owner_of(pool, ask), spec, JobPhase.QUEUED, now)

    async def _refuse(self, job: CiJob, why: str) -> None:
        if await self._store.ci_jobs.note_refused(job, why):
            data = {"repository": job.repository, "job": job.id, "run": job.run_id, "site": job.site.base}
            message = f"job {job.id} of {job.repository}: {why}"
            await self._store.records.record(Event("pool.refused", self._clock.now(), message, data=data))

    def _site_of(self, spec: RunnerSpec) -> Site:
        """Asked for every runner at every turn."""
        key = (spec.url, spec.base)
        if key not in self._places:
            self._places[key] = runner_site(spec)
        return self._places[key]

    def _narrowest(self, job: CiJob) -> Site | None:
        found = [site for pool in self.pools if (site := pool.site_of(job)) is not None]
        return max(found, key=lambda site: len(site.path), default=None)

    def _active(self, found: Look) -> set[Site]:
        """Sites at which jobs wait or run: something should be heard of those."""
        jobs = (job for jobs in found.sorted.by_pool.values() for job in jobs)
        at = {self._narrowest(job) for job in {(job.site.base, job.repository): job for job in jobs}.values()}
        at |= {one.site for crew in found.crews.values() for one in crew.began}
        return {site for site in at if site is not None}

    async def _tell(self, what: str, pool: Pool, message: str, count: int) -> None:
        data = {"pool": pool.name, "count": count}
        await self._store.records.record(Event(what, self._clock.now(), f"{pool.name}: {message}", data=data))

    # Beside it

    async def _redeliver(self) -> None:
        while self._redelivers:
            await self._clock.sleep(self._policy.redeliver_every_s)
            since = self._clock.now() - timedelta(seconds=self._policy.redeliver_back_s)
            for name, forge in self._redelivers.items():
                try:
                    again = await forge.redeliver(since)
                except ForgeError as error:
                    self._asked[name] = (self._asked[name][0], error.line)
                    _log.warning("webhooks.not_sent_again", forge=name, error=error.message)
                    continue
                self._asked[name] = (self._clock.monotonic(), "")
                if again:
                    _log.info("webhooks.sent_again", forge=name, count=len(again))

    async def _prune(self) -> None:
        while True:
            await self._store.ci_jobs.prune(self._clock.now() - _KEPT)
            await self._clock.sleep(_PRUNE_S)

    # What people see

    async def shown(self) -> list[PoolShown]:
        found = await self._looked()
        now = self._clock.now()
        return [shown(pool, found, self._brakes.hold(pool), self.waiting().sources, now) for pool in self.pools]

    def waiting(self) -> Waiting:
        now_s, now = self._clock.monotonic(), self._clock.now()
        jobs = [job for jobs in (self._look.sorted.by_pool.values() if self._look else ()) for job in jobs]
        oldest_s = max((round((now - job.created_at).total_seconds(), 1) for job in jobs), default=0.0)
        heard = None if self._heard_s is None else round(now_s - self._heard_s, 1)
        sources = [*self._polls.sources(), *([Source("webhooks", heard)] if self.pools else [])]
        sources += self._queues.sources()
        for name, (asked_s, trouble) in self._asked.items():
            age_s = None if asked_s is None else round(now_s - asked_s, 1)
            sources.append(Source(f"redelivery {name}", age_s, trouble))
        return Waiting(max(0.0, oldest_s), len(jobs), tuple(sources))
