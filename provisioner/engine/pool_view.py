"""A pool as people see it: what there is, what there ought to be, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from provisioner.domain.demand import Believed, PoolShown, Source
from provisioner.domain.forge import CiJob
from provisioner.domain.pools import FREE, Key, Pool, PoolRunner, Sorted, Stage, Supply

from .crew import Crew


class Looked(Protocol):
    """What one look found."""

    @property
    def believed(self) -> Believed: ...
    @property
    def sorted(self) -> Sorted: ...
    @property
    def crews(self) -> Mapping[str, Crew]: ...
    @property
    def supplies(self) -> Mapping[str, Supply]: ...
    @property
    def again(self) -> Collection[Key]: ...


def shown(pool: Pool, found: Looked, held: str, sources: Sequence[Source], now: datetime) -> PoolShown:
    queued, crew, ought = found.sorted.by_pool[pool.name], found.crews[pool.name], found.supplies[pool.name]
    stages = Counter(str(runner.stage) for runner in crew.runners)
    return PoolShown(
        id=pool.name,
        sites=tuple(site.url for site in pool.sites),
        labels=pool.labels,
        max=pool.max,
        min_idle=pool.min_idle,
        queued=len(queued),
        wanted=ought.wanted,
        runners={str(stage): stages[str(stage)] for stage in Stage},
        why=tuple(_why(pool, found, held, sources, now)),
        jobs=tuple(_job(job, now) for job in queued),
        made=tuple(_runner(runner) for runner in crew.runners),
    )


def _why(pool: Pool, found: Looked, held: str, sources: Sequence[Source], now: datetime) -> list[str]:
    queued, crew, ought = found.sorted.by_pool[pool.name], found.crews[pool.name], found.supplies[pool.name]
    free = sum(runner.stage in FREE for runner in crew.runners)
    told = [f"{len(queued)} jobs wait; {ought.wanted} runners without a job ought to be there, and {free} are"]
    if again := sum(job.key in found.again for job in queued):
        told.append(f"{again} of them lost a machine before, and get an on-demand one where there is any")
    if pool.min_idle:
        when = "now" if ought.idle else "not at this time, by its schedule"
        told.append(f"{pool.min_idle} are to be kept ready: {when}")
    if queued:
        told.append(f"the oldest job has waited for {(now - queued[0].created_at).total_seconds():.0f} s")
    if ought.capped:
        told.append(f"{ought.capped} jobs wait for others of their repository: per_repository is {pool.per_repository}")
    if full := ought.held_back - ought.capped:
        there = len(crew.runners) + crew.machines
        told.append(f"{full} jobs wait because max is {pool.max} and {there} runners or machines are there")
    if held:
        told.append(f"nothing is submitted: {held}")
    waits = Counter(str(job.reason) for job in crew.jobs if job.reason.why and job.cancel_asked_at is None)
    told += [f"{count} of its runners wait for a machine: {reason}" for reason, count in waits.items()]
    told += _left_out(pool, found)
    mine = {f"queue {pool.name}", *(f"poll {site.url}" for site in pool.sites)}
    told += [f"{one.name}: {one.trouble}" for one in sources if one.trouble and one.name in mine]
    return told


def _left_out(pool: Pool, found: Looked) -> list[str]:
    refused = [job for job, _ in found.sorted.refused if pool.suits(job)]
    untold = [job for job in found.sorted.untold if pool.site_of(job) is not None]
    lines = []
    if refused:
        lines.append(f"{len(refused)} jobs come from forks, which it does not trust")
    if untold:
        lines.append(f"of {len(untold)} jobs the forge has not told yet where they come from")
    return lines


def _job(job: CiJob, now: datetime) -> dict[str, Any]:
    waited_s = round((now - job.created_at).total_seconds(), 1)
    told = {"id": job.id, "repository": job.repository, "run": job.run_id, "name": job.name, "url": job.url}
    return {**told, "labels": list(job.labels), "waited_s": waited_s}


def _runner(runner: PoolRunner) -> dict[str, Any]:
    return {"job": runner.job_id, "site": runner.site.url, "repository": runner.repository, "stage": str(runner.stage)}
