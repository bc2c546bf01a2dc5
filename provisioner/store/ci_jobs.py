"""CI jobs as forges tell of them: moved forward only, taken from each webhook once; and what is submitted for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, RowMapping, and_, delete, insert, select, text, update

from provisioner.domain.demand import UNSEEN, WAITS_FOR, Believed, KnownJob
from provisioner.domain.forge import CiJob, CiJobState, ForgeKind, Site
from provisioner.domain.job import AttemptPhase, InstancePhase, Job, JobPhase
from provisioner.domain.pools import NAMED, covers

from . import codec, ledger
from .schema import attempts, ci_jobs, deliveries, instances, jobs, meta
from .sql import Database

T = TypeVar("T")
_LOCK = 71002  # arbitrary; one writer of these tables at a time
_RANKS = {state: rank for rank, state in enumerate(CiJobState)}
_TOLD = ("run_id", "name", "url", "ref", "runner_name", "conclusion")
_OURS = select(jobs).where(jobs.c.name.startswith(NAMED, autoescape=True), jobs.c.phase != str(JobPhase.DONE))
_LIVE_ATTEMPTS = select(attempts).where(attempts.c.phase != str(AttemptPhase.ENDED))
_MACHINES = select(instances.c.planned_for, instances.c.owner).where(instances.c.phase != str(InstancePhase.GONE))
_QUEUED = select(ci_jobs).where(ci_jobs.c.state == str(CiJobState.QUEUED)).order_by(ci_jobs.c.created_at)


class SqlCiJobs:
    """The CiJobs port."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def take(self, told: Sequence[tuple[str, Sequence[CiJob]]], at: datetime) -> list[bool]:
        return await self._write(lambda connection: [_take(connection, *one, at) for one in told])

    async def note(self, told: Sequence[CiJob], at: datetime) -> None:
        def work(connection: Connection) -> None:
            for job in told:
                _merge(connection, job, at)

        await self._write(work)

    async def listed(self, site: Site, shown: Sequence[CiJob], began_at: datetime, at: datetime) -> int:
        def work(connection: Connection) -> int:
            news = sum(_merge(connection, job, at, polled=True) for job in shown)
            keys = {job.key for job in shown}
            before = and_(ci_jobs.c.base == site.base, ci_jobs.c.seen_at < began_at.timestamp())
            for row in connection.execute(_QUEUED.where(before, ci_jobs.c.unseen < UNSEEN)).mappings().all():
                job = _job(row)
                if job.key not in keys and covers(site, job):
                    connection.execute(update(ci_jobs).where(_is(job)).values(unseen=row["unseen"] + 1))
            return news

        return await self._write(work)

    async def believed(self, pools: Collection[str], now: datetime) -> Believed:
        lately = ci_jobs.c.seen_at > (now - WAITS_FOR).timestamp()
        waiting = _QUEUED.where(ci_jobs.c.unseen < UNSEEN, lately)

        def work(connection: Connection) -> Believed:
            made = {pool: _made(connection, pool) for pool in pools}
            ours = [codec.job(row) for row in connection.execute(_OURS).mappings()]
            live = [codec.attempt(row) for row in connection.execute(_LIVE_ATTEMPTS).mappings()] if ours else []
            machines = connection.execute(_MACHINES).all()
            return Believed(
                waiting=tuple(_known(row) for row in connection.execute(waiting).mappings()),
                made=made,
                jobs=tuple(ours),
                attempts={attempt.job_id: attempt for attempt in live},
                planned=frozenset(row.planned_for for row in machines),
                owners=tuple(row.owner for row in machines if row.owner.startswith(NAMED)),
            )

        return await self._db.run(work)

    async def begun_by(self, runners: Collection[str]) -> set[str]:
        query = select(ci_jobs.c.runner_name).where(ci_jobs.c.runner_name.in_(runners))
        return await self._db.run(lambda c: set(c.scalars(query)))

    async def note_refused(self, job: CiJob, why: str) -> bool:
        change = update(ci_jobs).where(_is(job), ci_jobs.c.refused != why).values(refused=why)
        return await self._write(lambda c: c.execute(change).rowcount == 1)

    async def submit(self, pool: str, fresh: Sequence[Job], *, made: int, at_most: int) -> int:
        def work(connection: Connection) -> int:
            if _made(connection, pool) != made:
                return 0
            count = max(0, min(len(fresh), at_most - _there(connection, pool)))
            for job in fresh[:count]:
                connection.execute(insert(jobs).values(**codec.job_row(job)))
                ledger.note(connection, "job.queued", job.created_at, job.spec.name, job_id=job.id)
            if count:
                _set_made(connection, pool, made, made + count)
            return count

        return await self._write(work)

    async def prune(self, before: datetime) -> None:
        late = before.timestamp()

        def work(connection: Connection) -> None:
            connection.execute(delete(deliveries).where(deliveries.c.seen_at < late))
            connection.execute(delete(ci_jobs).where(ci_jobs.c.seen_at < late))

        await self._write(work)

    async def _write(self, work: Callable[[Connection], T]) -> T:
        def alone(connection: Connection) -> T:
            if not self._db.sqlite:
                connection.execute(text(f"select pg_advisory_xact_lock({_LOCK})"))
            return work(connection)

        return await self._db.run(alone)


def _take(connection: Connection, delivery_id: str, told: Sequence[CiJob], at: datetime) -> bool:
    if connection.scalar(select(deliveries.c.id).where(deliveries.c.id == delivery_id)) is not None:
        return False
    connection.execute(insert(deliveries).values(id=delivery_id, seen_at=at.timestamp()))
    for job in told:
        _merge(connection, job, at)
    return True


def _merge(connection: Connection, job: CiJob, at: datetime, *, polled: bool = False) -> bool:
    """Whether nobody had told of it before."""
    before = connection.execute(select(ci_jobs).where(_is(job))).mappings().one_or_none()
    if before is None:
        fresh = polled or at - job.created_at < WAITS_FOR
        connection.execute(insert(ci_jobs).values(**_values(job, at if fresh else job.created_at)))
        return True
    changes: dict[str, Any] = {name: getattr(job, name) for name in _TOLD if getattr(job, name)}
    if _RANKS[job.state] >= _RANKS[CiJobState(before["state"])]:
        changes["state"] = str(job.state)
    if job.labels:
        changes["labels"] = json.dumps(job.labels)
    if job.fork is not None:
        changes["fork"] = job.fork
    if polled:
        changes |= {"unseen": 0, "seen_at": at.timestamp()}
    connection.execute(update(ci_jobs).where(_is(job)).values(**changes))
    return False


def _is(job: CiJob) -> Any:
    base, number, attempt = job.key
    return and_(ci_jobs.c.base == base, ci_jobs.c.job_id == number, ci_jobs.c.attempt == attempt)


def _values(job: CiJob, at: datetime) -> dict[str, Any]:
    return {
        "base": job.site.base,
        "job_id": job.id,
        "attempt": job.attempt,
        "kind": str(job.site.kind),
        "path": job.site.path,
        "repository": job.repository,
        "state": str(job.state),
        "labels": json.dumps(job.labels),
        "fork": job.fork,
        "created_at": job.created_at.timestamp(),
        **{name: getattr(job, name) for name in _TOLD},
        "seen_at": at.timestamp(),
        "unseen": 0,
        "refused": "",
    }


def _job(row: RowMapping) -> CiJob:
    return CiJob(
        id=row["job_id"],
        site=Site(ForgeKind(row["kind"]), row["base"], row["path"]),
        repository=row["repository"],
        state=CiJobState(row["state"]),
        labels=tuple(json.loads(row["labels"])),
        created_at=codec.when(row["created_at"]),
        attempt=row["attempt"],
        fork=None if row["fork"] is None else bool(row["fork"]),
        **{name: row[name] for name in _TOLD},
    )


def _known(row: RowMapping) -> KnownJob:
    return KnownJob(_job(row), codec.when(row["seen_at"]), row["unseen"], row["refused"])


def _key(pool: str) -> str:
    return f"{NAMED}{pool}.made"


def _made(connection: Connection, pool: str) -> int:
    return int(connection.scalar(select(meta.c.value).where(meta.c.key == _key(pool))) or 0)


def _set_made(connection: Connection, pool: str, before: int, after: int) -> None:
    mine = meta.c.key == _key(pool)
    if not connection.execute(update(meta).where(mine).values(value=str(after))).rowcount:
        connection.execute(insert(meta).values(key=_key(pool), value=str(after)))


def _there(connection: Connection, pool: str) -> int:
    """Runners of the pool short of done, and machines of it whose runner is."""
    alive = select(jobs.c.id).where(jobs.c.name == NAMED + pool, jobs.c.phase != str(JobPhase.DONE))
    runners = set(connection.scalars(alive))
    mine = instances.c.owner.startswith(f"{NAMED}{pool}/", autoescape=True)
    owners = connection.scalars(select(instances.c.owner).where(mine, instances.c.phase != str(InstancePhase.GONE)))
    return len(runners) + sum(owner.partition("#")[2] not in runners for owner in owners)
