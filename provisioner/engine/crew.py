"""What became of the runners that were submitted for pools: each one's stage, as everybody concerned tells it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from provisioner.domain.facts import Report, RunnerTold
from provisioner.domain.forge import Site
from provisioner.domain.job import Attempt, Instance, Job, JobPhase, RunnerSpec
from provisioner.domain.pools import NAMED, Pool, PoolRunner, Stage, Taken, repository_of
from provisioner.domain.ports import Clock, Store
from provisioner.domain.runners import RunnerRow

_OPEN = (JobPhase.QUEUED, JobPhase.RUNNING, JobPhase.HELD)


@dataclass
class Crew:
    """One pool's. `machines` are those without a runner; `began` what runners say that they have begun."""

    runners: list[PoolRunner] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    machines: int = 0
    began: list[Taken] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Seen:
    attempts: Mapping[str, Attempt]
    planned: frozenset[str]
    rows: Mapping[tuple[str, int], RunnerRow]
    reports: Mapping[str, Report]


async def look(
    store: Store,
    pools: Sequence[Pool],
    rows: Mapping[tuple[str, int], RunnerRow],
    reports: Mapping[str, Report],
    site_of: Callable[[RunnerSpec], Site],
    clock: Clock,
) -> dict[str, Crew]:
    """By the name of the pool."""
    crews = {pool.job_name: Crew() for pool in pools}
    found, live, instances = await asyncio.gather(
        store.jobs.find(phases=_OPEN, limit=1_000_000), store.jobs.live_attempts(), store.instances.find()
    )
    jobs = [job for job in found if job.spec.name in crews]
    planned = frozenset(one.planned_for for one in instances)
    seen = _Seen({attempt.job_id: attempt for attempt in live}, planned, rows, reports)
    for job in jobs:
        if job.spec.runner is not None:
            crew = crews[job.spec.name]
            crew.jobs.append(job)
            _add(crew, job, site_of(job.spec.runner), seen, clock)
    alive = {job.id for job in jobs}
    for one in instances:
        if (name := _pool_of(one)) in crews and one.owner.partition("#")[2] not in alive:
            crews[name].machines += 1
    return {name.removeprefix(NAMED): crew for name, crew in crews.items()}


def _pool_of(instance: Instance) -> str:
    return "/".join(instance.owner.split("/", 2)[:2]) if instance.owner.startswith(NAMED) else ""


def _add(crew: Crew, job: Job, site: Site, seen: _Seen, clock: Clock) -> None:
    attempt = seen.attempts.get(job.id)
    row = seen.rows.get((job.id, attempt.number)) if attempt else None
    told = _told(attempt, seen.reports)
    stage = stage_of(job, attempt, told, row, job.id in seen.planned)
    repository, idle_s = repository_of(job.owner), told.idle_s if told and stage is Stage.IDLE else 0.0
    if stage is Stage.BUSY and told is not None and attempt is not None:
        labels = job.spec.runner.labels if job.spec.runner else ()
        name = row.name if row else attempt.key
        at = row.busy_at if row is not None and row.busy_at is not None else clock.now()
        repository = told.job.get("repository", repository)
        taken = Taken(name, site, labels, repository, told.job.get("run", ""), told.job.get("job", ""), at)
        crew.began.append(taken)
    crew.runners.append(PoolRunner(job.id, site, repository, stage, idle_s))


def _told(attempt: Attempt | None, reports: Mapping[str, Report]) -> RunnerTold | None:
    report = reports.get(attempt.instance_id) if attempt else None
    if attempt is None or report is None:
        return None
    mine = (attempt.job_id, attempt.number)
    return next((told.runner for told in report.attempts if (told.job_id, told.number) == mine), None)


def stage_of(job: Job, attempt: Attempt | None, told: RunnerTold | None, row: RunnerRow | None, planned: bool) -> Stage:
    """Any evidence of a job makes it busy, whoever wants its end."""
    if told is not None and told.phase in ("busy", "done"):
        return Stage.BUSY if told.phase == "busy" else Stage.ENDING
    if row is not None and row.gone_at is None and row.busy_at is not None:
        return Stage.BUSY
    if job.cancel_asked_at is not None or (row is not None and row.gone_at is not None):
        return Stage.ENDING
    if attempt is None:
        return Stage.COMING if planned else Stage.WAITING
    online = told is not None or (row is not None and row.online_at is not None)
    return Stage.IDLE if online else Stage.COMING
