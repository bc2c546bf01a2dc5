"""A forge in memory, with faults: the Forge port over virtual time, and the programs that are its runners.

It gives queued jobs to runners that are online, idle and have the labels, whenever it likes: also between somebody's
look and their removal. It removes no runner that has a job; one that served its job is gone by itself. Answers get lost
before and after the effect; listings lag. `refuses` False: it removes a runner at work, and its job is lost; `shows`
False: its listings say of none that it works. What was
lost is run again when it is asked for that, but not before its run is over.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, TypeVar

from provisioner.domain.errors import ForgeError, ForgeThrottled, ForgeUnreachable, RunnerBusy, StillRunning
from provisioner.domain.forge import (
    CiJob,
    CiJobState,
    Forge,
    ForgeKind,
    Given,
    Registration,
    Runner,
    RunnerOrder,
    Site,
    Software,
    serves,
)
from provisioner.domain.ports import Clock

T = TypeVar("T")
SITE = Site(ForgeKind("github"), "https://github.com", "octo/repo")


@dataclass(frozen=True)
class ForgeFaults:
    """Chances, each between 0 and 1, drawn anew at every call."""

    unreachable: float = 0.08
    answer_lost: float = 0.08
    throttled: float = 0.03
    slow: float = 0.05
    raced: float = 0.3  # a job is given to a runner just before its removal arrives
    outage: float = 0.3  # of an episode: nobody is answered for a while

    @staticmethod
    def none() -> ForgeFaults:
        return ForgeFaults(**{f.name: 0.0 for f in fields(ForgeFaults)})


@dataclass
class SimJob:
    """A CI job. `lost`: its runner's program died at work; `over_s` when the rest of its run was over then; `again` is
    what it was run again as, and `run` is the same for both. `facts` are what its runner's hooks tell of it."""

    id: str
    labels: tuple[str, ...]
    seconds: float
    state: CiJobState = CiJobState.QUEUED
    runner: str = ""
    lost: bool = False
    facts: dict[str, str] = field(default_factory=dict)
    over_s: float = 0.0
    again: SimJob | None = None
    number: int = 1
    run: str = ""


@dataclass
class Record:
    forge_id: str
    name: str
    labels: tuple[str, ...]
    secret: str
    shown_from_s: float
    online: bool = False
    job: SimJob | None = None
    given: asyncio.Event = field(default_factory=asyncio.Event)


class SimForge:
    kind = ForgeKind("github")
    visibility_s = 10.0

    def __init__(
        self, clock: Clock, rng: random.Random, faults: ForgeFaults, *, refuses: bool = True, shows: bool = True
    ) -> None:
        self._clock = clock
        self._rng = rng
        self.faults = faults
        self._refuses = refuses
        self._shows = shows
        self.records: dict[str, Record] = {}
        self.jobs: dict[str, SimJob] = {}
        self.refused_at: datetime | None = None
        self.killed: list[tuple[str, SimJob]] = []
        self.raced: list[str] = []
        self.told_at_work: dict[str, list[datetime]] = {}
        self.begun: asyncio.Queue[CiJob] = asyncio.Queue()  # what its webhooks would tell of
        self._ids = itertools.count(1)
        self._away_until_s = 0.0
        self._sending: set[asyncio.Task[Any]] = set()

    # The port

    async def register(self, site: Site, order: RunnerOrder) -> Registration:
        return await self._call(lambda: self._register(order))

    def _register(self, order: RunnerOrder) -> Registration:
        before = self.records.get(order.name)
        if before is not None and before.job is not None:
            raise RunnerBusy(f"{order.name} has a job")
        number = next(self._ids)
        shown_s = self._clock.monotonic() + self._rng.uniform(0.0, 8.0)
        record = Record(str(number), order.name, order.labels, f"secret-{number}", shown_s)
        self.records[order.name] = record
        return Registration(record.forge_id, order.name, record.secret)

    async def runners(self, site: Site) -> Sequence[Runner]:
        def effect() -> Sequence[Runner]:
            now_s = self._clock.monotonic()
            shown = [r for r in self.records.values() if r.shown_from_s <= now_s]
            return [Runner(r.forge_id, r.name, r.online, self._shows and r.job is not None, r.labels) for r in shown]

        asked_at = self._clock.now()
        told = await self._call(effect)
        for runner in told:
            record = self.records.get(runner.name)
            if record is not None and record.online and record.job is not None:
                self.told_at_work.setdefault(runner.name, []).append(asked_at)
        return told

    async def remove(self, site: Site, forge_id: str, name: str) -> None:
        def effect() -> None:
            record = self.records.get(name)
            if record is not None and record.online and record.job is None and self._rng.random() < self.faults.raced:
                self._give(record, self._just_now(record))
                self.raced.append(name)
            if record is not None and record.job is not None and self._refuses:
                raise RunnerBusy(f"{name} has a job")
            if record is not None:
                self.drop(record)
            self.records.pop(name, None)

        await self._call(effect)

    def _just_now(self, record: Record) -> SimJob:
        """A job that it is given just before it is removed."""
        key = f"raced-{record.name}-{next(self._ids)}"
        return SimJob(key, record.labels, self._rng.choice((2.0, 15.0)))

    async def queued(self, site: Site) -> Sequence[CiJob]:
        waiting = [job for job in self.jobs.values() if job.state is CiJobState.QUEUED]
        return [CiJob(j.id, SITE, SITE.path, j.state, j.labels, self._clock.now()) for j in waiting]

    async def job(self, site: Site, repository: str, job_id: str) -> CiJob | None:
        return await self._call(lambda: self._shown(self.jobs.get(job_id)))

    async def taken(self, site: Site, given: Given) -> CiJob | None:
        def effect() -> CiJob | None:
            mine = (job for job in self.jobs.values() if job.runner == given.runner_name and job.run == given.run_id)
            return self._shown(next(mine, None))

        return await self._call(effect)

    def _shown(self, job: SimJob | None) -> CiJob | None:
        if job is None:
            return None
        end = ("failure" if job.lost else "success") if job.state is CiJobState.DONE else ""
        now, run = self._clock.now(), job.run
        return CiJob(job.id, SITE, SITE.path, job.state, job.labels, now, run, job.number, "train", conclusion=end)

    async def rerun(self, site: Site, job: CiJob) -> None:
        def effect() -> None:
            before = self.jobs[job.id]
            if before.state is not CiJobState.DONE or self._clock.monotonic() < before.over_s:
                raise StillRunning(f"the run of {job.id} has not ended")
            if before.again is None:
                self.run_again(before)

        await self._call(effect)

    def run_again(self, before: SimJob) -> SimJob:
        number = before.number + 1
        key = f"{before.id.partition('#')[0]}#{number}"
        again = before.again = self._like(before, key, number)
        self.queue(again)
        return again

    def _like(self, before: SimJob, key: str, number: int) -> SimJob:
        return SimJob(key, before.labels, before.seconds, number=number, run=before.run)

    async def software(self, site: Site, system: str, machine: str) -> Software:
        return Software("actions-runner", "2.330.0", "https://github.com/runner", "ab" * 32, self.refused_at)

    async def close(self) -> None:
        return

    async def _call(self, effect: Callable[[], T]) -> T:
        """The effect takes place even when whoever asked for it is gone by then (F8), and now and then much later."""
        task = asyncio.create_task(self._sent(effect))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        return await asyncio.shield(task)

    async def _sent(self, effect: Callable[[], T]) -> T:
        late = self._rng.random() < self.faults.slow
        await self._clock.sleep(self._rng.uniform(5.0, 40.0) if late else self._rng.uniform(0.01, 0.5))
        draw = self._rng.random()
        if self._clock.monotonic() < self._away_until_s or draw < self.faults.unreachable:
            raise ForgeUnreachable("502")
        if draw < self.faults.unreachable + self.faults.throttled:
            raise ForgeThrottled("slow down", retry_after_s=5.0)
        answer = effect()
        await self._clock.sleep(self._rng.uniform(0.01, 0.5))
        if self._rng.random() < self.faults.answer_lost:
            raise ForgeUnreachable("504")
        return answer

    # People, and time

    def queue(self, job: SimJob) -> None:
        job.run = job.run or str(next(self._ids))
        self.jobs[job.id] = job

    def go_away(self, seconds: float) -> None:
        self._away_until_s = self._clock.monotonic() + seconds

    def away(self) -> bool:
        return self._clock.monotonic() < self._away_until_s or self._rng.random() < self.faults.unreachable

    def answer_gets_lost(self) -> bool:
        return self._rng.random() < self.faults.answer_lost

    def calm(self) -> None:
        self.faults, self._away_until_s = ForgeFaults.none(), 0.0

    async def assign(self) -> None:
        """Gives out what is queued, for ever."""
        while True:
            await self._clock.sleep(self._rng.uniform(0.05, 3.0))
            for job in self.jobs.values():
                if job.state is not CiJobState.QUEUED:
                    continue
                idle = [r for r in self.records.values() if r.online and r.job is None and serves(r.labels, job.labels)]
                if idle:
                    self._give(self._rng.choice(idle), job)

    def _give(self, record: Record, job: SimJob) -> None:
        self.queue(job)
        record.job, job.state, job.runner = job, CiJobState.RUNNING, record.name
        record.given.set()
        now = self._clock.now()
        self.begun.put_nowait(
            CiJob(job.id, SITE, SITE.path, job.state, job.labels, now, job.run, name="train", runner_name=record.name)
        )

    # What a runner's program says

    def connect(self, secret: str) -> Record | None:
        """None when there is no such runner any more: its program ends."""
        record = next((r for r in self.records.values() if r.secret == secret), None)
        if record is not None:
            record.online = True
        return record

    def is_there(self, record: Record) -> bool:
        return self.records.get(record.name) is record

    def finish(self, record: Record) -> None:
        assert record.job is not None
        record.job.state = CiJobState.DONE
        self.records.pop(record.name, None)

    def drop(self, record: Record) -> None:
        """Its program is gone, whatever it was at. A forge gives up on its job after a while."""
        record.online = False
        if record.job is not None:
            record.job.state, record.job.lost = CiJobState.DONE, True
            record.job.over_s = self._clock.monotonic() + self._rng.choice((0.0, 10.0, 60.0))
            self.killed.append((record.name, record.job))
            record.job = None


class SimForges:
    """The Forges port over one forge; `through` is how calls get there."""

    def __init__(self, forge: SimForge, through: Callable[[Any], Any] = lambda port: port) -> None:
        self._port: Forge = through(forge)

    def of(self, site: Site) -> Forge:
        return self._port

    def preinstalled(self, site: Site) -> tuple[str, ...]:
        return ()


async def patiently(clock: Clock, call: Callable[[], Awaitable[T]]) -> T:
    """Again until it is answered. Raises: whatever is no ForgeError."""
    while True:
        try:
            return await call()
        except ForgeError:
            await clock.sleep(2.0)
