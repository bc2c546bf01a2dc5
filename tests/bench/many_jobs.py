"""A controller's engine at size, over its real SQLite store on disk and the simulated cloud, in real time.

Three figures, each of this process, which is engine, store and cloud in one: how much later than the cloud's own rate
limit demands the last of a thousand launches is asked for; how long one pass over ten thousand machines at work takes;
how long a controller that starts over those takes until every one is listed and heard and nothing is left to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import structlog

from provisioner.app.clock import SystemClock
from provisioner.domain.errors import Throttled
from provisioner.domain.facts import AttemptReport, Report, Seen
from provisioner.domain.ids import instance_name, new_id
from provisioner.domain.job import NO_REASON, Instance, InstancePhase, Job, JobPhase, JobSpec
from provisioner.domain.offer import LaunchOrder, Machine, MachineState, Market
from provisioner.domain.policy import Policy
from provisioner.engine import Engine
from provisioner.store.open import SqlStore, open_store
from tests.fakes.simcloud import Faults, SimCloud, SimMachine

from .measure import say

JOBS = int(os.environ.get("BENCH_JOBS", "1000"))
MACHINES = int(os.environ.get("BENCH_MACHINES", "10000"))
_BURST, _A_SECOND = 100, 20.0  # the cloud's limit on calls that launch
_PASSES = 5
_KEY = b"k" * 32


class Bucket:
    """`take` waits for a token, as an adapter does; `spill` takes one at once or says that there is none."""

    def __init__(self, burst: float, a_second: float) -> None:
        self._tokens, self._burst, self._a_second = burst, burst, a_second
        self._at_s = time.monotonic()

    def spill(self) -> bool:
        now_s = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._a_second)
        self._at_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    async def take(self) -> None:
        while not self.spill():  # noqa: ASYNC110 (time is what it waits for)
            await asyncio.sleep((1 - self._tokens) / self._a_second)


class LimitedCloud(SimCloud):
    """Refuses launches over its limit. The adapter's half keeps just below it; `throttled` counts where it failed."""

    def __init__(self) -> None:
        super().__init__(SystemClock(), random.Random(1), faults=Faults.none())
        self._limit, self._pace = Bucket(_BURST, _A_SECOND), Bucket(_BURST * 0.95, _A_SECOND)
        self.asked_s: dict[str, float] = {}
        self.throttled = 0
        self.all_asked = asyncio.Event()

    async def launch(self, order: LaunchOrder) -> Machine:
        await self._pace.take()
        if not self._limit.spill():
            self.throttled += 1
            raise Throttled("RequestLimitExceeded")
        self.asked_s.setdefault(order.name, time.monotonic())
        if len(self.asked_s) == JOBS:
            self.all_asked.set()
        return await super().launch(order)


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    asyncio.run(_launches())
    asyncio.run(_passes())


async def _launches() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store, cloud = await _store(Path(folder)), LimitedCloud()
        for number in range(JOBS):
            await store.jobs.submit(_job(number))
        engine = _engine(store, cloud)
        began_s = time.monotonic()
        running = asyncio.create_task(engine.run())
        await asyncio.wait({running, asyncio.create_task(cloud.all_asked.wait())}, return_when=asyncio.FIRST_COMPLETED)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await store.close()
    took_s = max(cloud.asked_s.values()) - began_s
    least_s = (JOBS - _BURST) / _A_SECOND
    words = f"{took_s:.1f} s, {took_s - least_s:+.1f} s beside the limit's own {least_s:.1f} s"
    say(f"{JOBS} jobs at once, the last launch asked for", f"{words}; {cloud.throttled} throttled", "+2 s")


async def _passes() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store, cloud = await _store(Path(folder)), LimitedCloud()
        rows = await _at_work(store, cloud)
        engine = _engine(store, cloud)
        restart_s = await _converge(engine, store, rows)
        say(f"{MACHINES} machines at work: restart to converged", f"{restart_s:.2f} s", "5 s")
        took = []
        for _ in range(_PASSES):
            _heard(engine, rows)
            began_s = time.monotonic()
            await engine.run_pass()
            took.append(time.monotonic() - began_s)
        words = f"{sorted(took)[_PASSES // 2]:.2f} s ({min(took):.2f} to {max(took):.2f})"
        say(f"{MACHINES} machines at work: one pass, all heard again", words, "1 s")
        await store.close()


async def _converge(engine: Engine, store: SqlStore, rows: Sequence[tuple[Instance, Job]]) -> float:
    """From the first line of a new controller, its agents' first reports included, until nothing is due."""
    began_s = time.monotonic()
    _heard(engine, rows)
    while True:
        await engine.run_pass()
        due = await store.instances.due()
        seen = all(isinstance(engine.observed.sighting(row), Seen) for row, _ in rows)
        at_work = any(task.get_name().startswith("reconcile ") for task in asyncio.all_tasks())
        if seen and not at_work and due is not None and due > datetime.now(UTC):
            return time.monotonic() - began_s


def _heard(engine: Engine, rows: Sequence[tuple[Instance, Job]]) -> None:
    now = datetime.now(UTC)
    for number, (row, job) in enumerate(rows):
        told = (AttemptReport(job.id, 1, "running", log_size=number),)
        engine.desk.heard(row.id, Report(heard_at=now, boot_id=row.ref, attempts=told))


async def _at_work(store: SqlStore, cloud: SimCloud) -> list[tuple[Instance, Job]]:
    """Machines that run a job each, in the store and in the cloud."""
    rng, rows = random.Random(2), []
    for number in range(MACHINES):
        now = datetime.now(UTC)
        job = await store.jobs.submit(_job(number))
        key = new_id("i", now, rng.getrandbits)
        offer = cloud.offer("north", Market.ON_DEMAND)
        row = Instance(key, instance_name(key), "ada", InstancePhase.PLANNED, offer, now, now, planned_for=job.id)
        row = replace(row, max_lifetime_s=1e6)
        row = await store.instances.plan(
            row, max_instances=10**6, max_usd_per_hour=Decimal(10**6), reserve_usd_per_hour=Decimal(1)
        )
        for phase in (InstancePhase.LAUNCHING, InstancePhase.BOOTING, InstancePhase.READY):
            launched = {"ref": f"m-{number}", "launched_at": now} if phase is InstancePhase.BOOTING else {}
            row = await store.instances.advance(row, phase, NO_REASON, now, **launched)
        attempt = await store.jobs.assign(job, row, now)
        await store.jobs.started(attempt, now)
        cloud.there.append(_machine(row, await store.records.controller_id()))
        rows.append((row, job))
    return rows


def _machine(row: Instance, controller: str) -> SimMachine:
    order = LaunchOrder(row.name, controller, row.offer, row.owner, datetime.max.replace(tzinfo=UTC), "{}", 0.0)
    machine = SimMachine(row.ref, order, datetime.now(UTC), time.monotonic() - 3600, 0.0)
    machine.state = MachineState.RUNNING
    return machine


def _job(number: int) -> Job:
    now = datetime.now(UTC)
    return Job(new_id("j", now, random.Random(number).getrandbits), "ada", JobSpec(run="true"), JobPhase.QUEUED, now)


async def _store(folder: Path) -> SqlStore:
    return await open_store(f"sqlite:///{folder / 'runner.db'}", secret_key=_KEY, home=folder)


def _engine(store: SqlStore, cloud: SimCloud) -> Engine:
    async def config(instance: Instance) -> str:
        return "{}"

    policy = replace(Policy(), max_instances=10**6, max_usd_per_hour=Decimal(10**6))
    return Engine(
        store=store,
        providers={"sim": cloud},
        clock=SystemClock(),
        policy=policy,
        rng=random.Random(3),
        config_for=config,
        holder="bench",
        default_providers=("sim",),
    )


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
