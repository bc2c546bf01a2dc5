"""A simulated forge whose jobs come by the hundred, from many repositories, and of which it tells by webhooks.

Of its webhooks a share is lost, sent twice, or held until others have overtaken it; what was lost it keeps, and sends
again when asked to. As GitHub's, those of jobs do not say whether they are a fork's; those of runs do.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from provisioner.domain.forge import (
    CiJob,
    CiJobState,
    Delivery,
    ForgeKind,
    Registration,
    RunnerOrder,
    Site,
    serves,
)
from provisioner.domain.pools import covers

from .simforge import ForgeFaults, Record, SimForge, SimJob
from .virtual import SimClock

BASE = "https://github.com"


@dataclass
class PoolJob(SimJob):
    """`created_at` by the clock of the forge."""

    repository: str = ""
    run: str = ""
    fork: bool = False
    cancelled: bool = False
    created_at: datetime = datetime.min
    began_at: datetime | None = None

    def told(self, fork: bool | None) -> CiJob:
        site = Site(ForgeKind("github"), BASE, self.repository)
        end = ("failure" if self.lost else "success") if self.state is CiJobState.DONE else ""
        more = {"fork": fork, "runner_name": self.runner, "name": self.id.partition("#")[0], "conclusion": end}
        at, run = self.created_at, self.run
        return CiJob(self.id, site, self.repository, self.state, self.labels, at, run, self.number, **more)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Mischief:
    """Shares of webhooks."""

    lose: float = 0.0
    double: float = 0.0
    late: float = 0.0


class Listens(Protocol):
    def tell(self, job: PoolJob) -> None: ...


class PoolForge(SimForge):
    """`deliver` brings a webhook to the controller: whether it was answered. `queues` are told of jobs as well,
    `served` of runners that have served theirs. `unheard` are jobs of whose coming the webhook was lost."""

    def __init__(
        self, clock: SimClock, rng: random.Random, mischief: Mischief, faults: ForgeFaults, *, refuses: bool = True
    ) -> None:
        super().__init__(clock, rng, faults, refuses=refuses)
        self._time = clock
        self._dice = random.Random(rng.random())
        self._mischief = mischief
        self._numbers = itertools.count(1)
        self._sites: dict[str, Site] = {}
        self._waiting: dict[str, PoolJob] = {}
        self._lost: list[tuple[datetime, Delivery]] = []
        self._on_their_way: set[asyncio.Task[None]] = set()
        self.deliver: Callable[[Delivery], Awaitable[bool]] = _nobody
        self.served: Callable[[str], None] = lambda runner: None
        self.queues: list[Listens] = []
        self.unheard: set[str] = set()
        self.asked = 0
        self.sent = 0
        self.mishaps = 0

    # The port

    async def register(self, site: Site, order: RunnerOrder) -> Registration:
        self._sites[order.name] = site
        return await super().register(site, order)

    async def queued(self, site: Site) -> Sequence[CiJob]:
        def effect() -> Sequence[CiJob]:
            return [told for job in self._waiting.values() if covers(site, told := job.told(job.fork))]

        return await self._call(effect)

    async def job(self, site: Site, repository: str, job_id: str) -> CiJob | None:
        self.asked += 1
        found = self.jobs.get(job_id)
        return await self._call(lambda: self._shown(found))

    def _shown(self, job: SimJob | None) -> CiJob | None:
        return job.told(job.fork) if isinstance(job, PoolJob) else None

    def _like(self, before: SimJob, key: str, number: int) -> PoolJob:
        assert isinstance(before, PoolJob)
        return PoolJob(
            key,
            before.labels,
            before.seconds,
            number=number,
            run=before.run,
            repository=before.repository,
            fork=before.fork,
        )

    async def redeliver(self, since: datetime) -> Sequence[str]:
        again, self._lost = [one for one in self._lost if one[0] >= since], []
        for _, delivery in again:
            self._send(delivery)
        return [delivery.id for _, delivery in again]

    # What happens there

    def begin_run(self, run: str, repository: str, *, fork: bool) -> None:
        facts = {"base": BASE, "repository": repository, "id": run, "fork": "yes" if fork else "no"}
        self._tell(Delivery("", "workflow_run", None, facts))

    def queue(self, job: SimJob) -> None:
        assert isinstance(job, PoolJob)
        job.created_at = self._time.now()
        job.facts = {"repository": job.repository, "run": job.run, "job": "test"}
        super().queue(job)
        self._waiting[job.id] = job
        self._tell_of(job)

    def cancel(self, job: PoolJob) -> None:
        """One that waits; whoever runs is left alone."""
        if job.state is CiJobState.QUEUED:
            job.state, job.cancelled = CiJobState.DONE, True
            self._waiting.pop(job.id)
            self._tell_of(job)

    async def assign(self) -> None:
        while True:
            await self._time.sleep(self._dice.uniform(0.05, 3.0))
            idle = [record for record in self.records.values() if record.online and record.job is None]
            self._dice.shuffle(idle)
            for job in list(self._waiting.values()) if idle else []:
                told = job.told(None)
                if (record := next((one for one in idle if self._may_have(one, told)), None)) is not None:
                    idle.remove(record)
                    self._give(record, job)

    def _just_now(self, record: Record) -> PoolJob:
        """One that waits, or else one that somebody wants just then."""
        waiting = (job for job in self._waiting.values() if self._may_have(record, job.told(None)))
        if (job := next(waiting, None)) is None:
            path, key = self._sites[record.name].path, f"raced-{next(self._numbers)}"
            where, seconds = path if "/" in path else f"{path}/late", self._rng.choice((2.0, 15.0))
            job = PoolJob(key, record.labels, seconds, run=f"run-{key}", repository=where)
            self.queue(job)
        return job

    def _may_have(self, record: Record, job: CiJob) -> bool:
        return serves(record.labels, job.labels) and covers(self._sites[record.name], job)

    def _give(self, record: Record, job: SimJob) -> None:
        assert isinstance(job, PoolJob)
        self._waiting.pop(job.id)
        record.job, job.state, job.runner = job, CiJobState.RUNNING, record.name
        job.began_at = self._time.now()
        self._tell_of(job)
        record.given.set()

    def finish(self, record: Record) -> None:
        job = record.job
        super().finish(record)
        self.served(record.name)
        assert isinstance(job, PoolJob)
        self._tell_of(job)

    # Webhooks

    def _tell_of(self, job: PoolJob) -> None:
        self._tell(Delivery("", "workflow_job", job.told(None)))
        for queue in self.queues:
            queue.tell(job)

    def _tell(self, delivery: Delivery) -> None:
        delivery = Delivery(f"d-{next(self._numbers)}", delivery.event, delivery.job, delivery.facts)
        self.sent += 1
        draw = self._dice.random()
        shares = itertools.accumulate((self._mischief.lose, self._mischief.double, self._mischief.late))
        lost, doubled, late = (draw < share for share in shares)
        self.mishaps += late
        if lost:
            self._lost.append((self._time.now(), delivery))
            if delivery.job is not None and delivery.job.state is CiJobState.QUEUED:
                self.unheard.add(delivery.job.id)
            return
        self._send(delivery, self._dice.uniform(5.0, 40.0) if late and not doubled else 0.0)
        if doubled:
            self._send(delivery, self._dice.uniform(0.0, 20.0))

    def _send(self, delivery: Delivery, delay_s: float = 0.0) -> None:
        async def send() -> None:
            await self._time.sleep(delay_s + self._dice.uniform(0.01, 0.3))
            if not await self.deliver(delivery):
                self._lost.append((self._time.now(), delivery))

        task = asyncio.create_task(send())
        self._on_their_way.add(task)
        task.add_done_callback(self._on_their_way.discard)


async def _nobody(delivery: Delivery) -> bool:
    return False
