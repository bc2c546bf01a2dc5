"""What became of the runners that were submitted for pools: each one's stage, as everybody concerned tells it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from provisioner.domain.demand import Believed
from provisioner.domain.facts import Report, RunnerTold
from provisioner.domain.forge import Site
from provisioner.domain.job import Attempt, Job, RunnerSpec
from provisioner.domain.pools import NAMED, Pool, PoolRunner, Stage, Taken, job_name_of, repository_of
from provisioner.domain.runners import RunnerRow, waited_s


@dataclass
class Crew:
    """One pool's. `machines` are those without a runner; `began` what runners say that they have begun."""

    runners: list[PoolRunner] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    machines: int = 0
    began: list[Taken] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Told:
    """What is known beside the database: runners' records by job and attempt, and what agents say, by instance.
    `patience_s`: so long may a runner's program take to be seen at its forge."""

    rows: Mapping[tuple[str, int], RunnerRow]
    reports: Mapping[str, Report]
    patience_s: float


def look(
    pools: Sequence[Pool], believed: Believed, told: Told, site_of: Callable[[RunnerSpec], Site], now: datetime
) -> dict[str, Crew]:
    """By the name of the pool."""
    crews = {pool.job_name: Crew() for pool in pools}
    for job in believed.jobs:
        if job.spec.name in crews and job.spec.runner is not None:
            crew = crews[job.spec.name]
            crew.jobs.append(job)
            _add(crew, job, site_of(job.spec.runner), believed, told, now)
    alive = {job.id for job in believed.jobs}
    for owner in believed.owners:
        name = job_name_of(owner)
        if name in crews and owner.partition("#")[2] not in alive:
            crews[name].machines += 1
    return {name.removeprefix(NAMED): crew for name, crew in crews.items()}


def _add(crew: Crew, job: Job, site: Site, believed: Believed, beside: Told, now: datetime) -> None:
    attempt, repository = believed.attempts.get(job.id), repository_of(job.owner)
    on_demand = job.spec.runner is not None and job.spec.runner.on_demand
    if attempt is None:
        stage = stage_of(job, None, None, None, job.id in believed.planned)
        crew.runners.append(PoolRunner(job.id, site, repository, stage, on_demand=on_demand))
        return
    row, told = beside.rows.get((job.id, attempt.number)), _told(attempt, beside.reports)
    stage, idle_s = stage_of(job, attempt, told, row, job.id in believed.planned), 0.0
    if told is not None and stage is Stage.IDLE:
        idle_s = waited_s(row, told, now, beside.patience_s)
    if told is not None and stage is Stage.BUSY:
        labels = job.spec.runner.labels if job.spec.runner else ()
        name = row.name if row else attempt.key
        at = row.busy_at if row is not None and row.busy_at is not None else now
        repository = told.job.get("repository", repository)
        taken = Taken(name, site, labels, repository, told.job.get("run", ""), told.job.get("job", ""), at)
        crew.began.append(taken)
    crew.runners.append(PoolRunner(job.id, site, repository, stage, idle_s, on_demand))


def _told(attempt: Attempt, reports: Mapping[str, Report]) -> RunnerTold | None:
    report = reports.get(attempt.instance_id)
    if report is None:
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
