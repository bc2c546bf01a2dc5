"""CI jobs as forges tell of them: moved forward only, taken from each webhook once; and what is submitted for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, String, and_, bindparam, delete, func, insert, select, text, update

from provisioner.domain.demand import WAITS_FOR, Believed
from provisioner.domain.forge import CiJob, CiJobState, Site
from provisioner.domain.job import AttemptPhase, InstancePhase, Job, JobPhase
from provisioner.domain.pools import NAMED, covers

from . import codec, ledger
from .ci_waiting import TOLD, WAITS, WaitingKept, decoded, next_change
from .schema import attempts, ci_jobs, deliveries, instances, jobs, meta
from .sql import Database, begins_with, portions
from .versioned import Kept

T = TypeVar("T")
_LOCK = 71002  # arbitrary; one writer of these tables at a time
_RANKS = {state: rank for rank, state in enumerate(CiJobState)}
_KEY = ("base", "job_id", "attempt")
_CHANGING = (*TOLD, "state", "labels", "fork", "unseen", "seen_at", "changed")
_Key = tuple[str, str, int]
_OURS = select(jobs.c.id, jobs.c.version).where(
    jobs.c.name.startswith(NAMED, autoescape=True), jobs.c.phase != str(JobPhase.DONE)
)
_LIVE_ATTEMPTS = select(attempts).where(attempts.c.phase != str(AttemptPhase.ENDED))
_MACHINES = select(instances.c.planned_for, instances.c.owner).where(instances.c.phase != str(InstancePhase.GONE))
_NOT_SHOWN = select(ci_jobs).where(
    WAITS, ci_jobs.c.base == bindparam("of_base"), ci_jobs.c.seen_at < bindparam("began")
)
_THESE = select(ci_jobs).where(
    ci_jobs.c.base == bindparam("of_base"), ci_jobs.c.job_id.in_(bindparam("ids", expanding=True))
)
_this = and_(*(ci_jobs.c[name] == bindparam(f"of_{name}") for name in _KEY))
_ADD = insert(ci_jobs)
_CHANGE = update(ci_jobs).where(_this).values({name: bindparam(f"new_{name}") for name in _CHANGING})
_UNSEEN_AGAIN = update(ci_jobs).where(_this).values(unseen=ci_jobs.c.unseen + 1, changed=bindparam("new_changed"))
_DELIVERED = select(deliveries.c.id).where(deliveries.c.id.in_(bindparam("ids", expanding=True)))
_DELIVER, _SUBMIT = insert(deliveries), insert(jobs)
_READ_MADE = select(meta.c.value).where(meta.c.key == bindparam("of_key"))
_WRITE_MADE = update(meta).where(meta.c.key == bindparam("of_key")).values(value=bindparam("new_value"))
_RUNNERS = select(jobs.c.id).where(jobs.c.name == bindparam("pool"), jobs.c.phase != str(JobPhase.DONE))
_OWNERS = select(instances.c.owner).where(
    begins_with(instances.c.owner, bindparam("owners", type_=String)),
    instances.c.phase != str(InstancePhase.GONE),
)
_COUNTS = select(*(select(func.count()).select_from(of.subquery()).scalar_subquery() for of in (_RUNNERS, _OWNERS)))


class SqlCiJobs:
    """The CiJobs port."""

    def __init__(self, database: Database, jobs_kept: Kept[Job]) -> None:
        self._db = database
        self._jobs = jobs_kept
        self.waiting_kept = WaitingKept(database)

    async def take(self, told: Sequence[tuple[str, Sequence[CiJob]]], at: datetime) -> list[bool]:
        return await self._write(lambda connection: _take(connection, told, at))

    async def note(self, told: Sequence[CiJob], at: datetime) -> None:
        await self._write(lambda connection: _merge(connection, told, at) and None)

    async def listed(self, site: Site, shown: Sequence[CiJob], began_at: datetime, at: datetime) -> int:
        keys = {job.key for job in shown}
        lacking = {"of_base": site.base, "began": began_at.timestamp()}

        def work(connection: Connection) -> int:
            news = _merge(connection, shown, at, polled=True)
            jobs_there = [decoded(row).job for row in connection.execute(_NOT_SHOWN, lacking).mappings()]
            lost = [job for job in jobs_there if job.key not in keys and covers(site, job)]
            if lost:
                change = {"new_changed": next_change(connection)}
                connection.execute(_UNSEEN_AGAIN, [_named(job) | change for job in lost])
            return news

        return await self._write(work)

    async def believed(self, pools: Collection[str], now: datetime) -> Believed:
        def work(connection: Connection) -> Believed:
            made = {pool: _made(connection, pool) for pool in pools}
            ours = self._jobs.read(connection, _OURS, {})
            live = [codec.attempt(row) for row in connection.execute(_LIVE_ATTEMPTS).mappings()] if ours else []
            machines, alive = connection.execute(_MACHINES).all(), {job.id for job in ours}
            return Believed(
                waiting=self.waiting_kept.read(connection, now - WAITS_FOR, now),
                made=made,
                jobs=tuple(ours),
                attempts={attempt.job_id: attempt for attempt in live},
                planned=frozenset(job_id for job_id, _ in machines),
                owners=tuple(owner for job_id, owner in machines if job_id not in alive and owner.startswith(NAMED)),
            )

        return await self._db.run(work)

    async def begun_by(self, runners: Collection[str]) -> dict[str, CiJob]:
        query = select(ci_jobs).where(ci_jobs.c.runner_name.in_(runners)).order_by(ci_jobs.c.created_at)

        def work(connection: Connection) -> dict[str, CiJob]:
            found = [decoded(row).job for row in connection.execute(query).mappings()]
            return {job.runner_name: job for job in found}

        return await self._db.run(work)

    async def note_refused(self, job: CiJob, why: str) -> bool:
        change = update(ci_jobs).where(_is(job), ci_jobs.c.refused != why).values(refused=why)

        def work(connection: Connection) -> bool:
            if connection.execute(change).rowcount != 1:
                return False
            connection.execute(update(ci_jobs).where(_is(job)).values(changed=next_change(connection)))
            return True

        return await self._write(work)

    async def submit(self, pool: str, fresh: Sequence[Job], *, made: int, at_most: int) -> int:
        def work(connection: Connection) -> int:
            if _made(connection, pool) != made:
                return 0
            count = _room(connection, pool, at_most, len(fresh))
            for job in fresh[:count]:
                connection.execute(_SUBMIT, codec.job_row(job))
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


def _take(connection: Connection, told: Sequence[tuple[str, Sequence[CiJob]]], at: datetime) -> list[bool]:
    """Whether each delivery is new; what comes twice among them is so once."""
    ids = {"ids": [delivery_id for delivery_id, _ in told]}
    taken, fresh, seen = set(connection.scalars(_DELIVERED, ids)), list[bool](), list[CiJob]()
    for delivery_id, told_jobs in told:
        fresh.append(delivery_id not in taken)
        if fresh[-1]:
            taken.add(delivery_id)
            seen += told_jobs
            connection.execute(_DELIVER, {"id": delivery_id, "seen_at": at.timestamp()})
    _merge(connection, seen, at)
    return fresh


def _merge(connection: Connection, told: Sequence[CiJob], at: datetime, *, polled: bool = False) -> int:
    """In their order; how many of them nobody had told of before."""
    rows, fresh, changed = _there_already(connection, told), dict[_Key, None](), dict[_Key, None]()
    for job in told:
        if (row := rows.get(job.key)) is None:
            late = not polled and at - job.created_at >= WAITS_FOR
            rows[job.key] = _values(job, job.created_at if late else at)
            fresh[job.key] = None
        else:
            changes = _changes(row, job, at, polled)
            if any(row[name] != value for name, value in changes.items()):
                row.update(changes)
                changed[job.key] = None
    changed = {key: None for key in changed if key not in fresh}
    if not (fresh or changed):
        return 0
    change = {"changed": next_change(connection)}
    if fresh:
        connection.execute(_ADD, [rows[key] | change for key in fresh])
    if changed:
        connection.execute(_CHANGE, [_renamed(rows[key] | change) for key in changed])
    return len(fresh)


def _there_already(connection: Connection, told: Sequence[CiJob]) -> dict[_Key, dict[str, Any]]:
    found = {}
    for base in dict.fromkeys(job.site.base for job in told):
        for some in portions([job.id for job in told if job.site.base == base]):
            for row in connection.execute(_THESE, {"of_base": base, "ids": some}).mappings():
                found[row["base"], row["job_id"], row["attempt"]] = dict(row)
    return found


def _changes(row: Mapping[str, Any], job: CiJob, at: datetime, polled: bool) -> dict[str, Any]:
    changes: dict[str, Any] = {name: getattr(job, name) for name in TOLD if getattr(job, name)}
    if _RANKS[job.state] >= _RANKS[CiJobState(row["state"])]:
        changes["state"] = str(job.state)
    if job.labels:
        changes["labels"] = json.dumps(job.labels)
    if job.fork is not None:
        changes["fork"] = job.fork
    if polled:
        changes |= {"unseen": 0, "seen_at": at.timestamp()}
    return changes


def _renamed(row: Mapping[str, Any]) -> dict[str, Any]:
    """For the statement that changes it."""
    return {f"new_{name}": row[name] for name in _CHANGING} | {f"of_{name}": row[name] for name in _KEY}


def _named(job: CiJob) -> dict[str, Any]:
    return {f"of_{name}": value for name, value in zip(_KEY, job.key, strict=True)}


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
        **{name: getattr(job, name) for name in TOLD},
        "seen_at": at.timestamp(),
        "unseen": 0,
        "refused": "",
    }


def _key(pool: str) -> str:
    return f"{NAMED}{pool}.made"


def _made(connection: Connection, pool: str) -> int:
    return int(connection.scalar(_READ_MADE, {"of_key": _key(pool)}) or 0)


def _set_made(connection: Connection, pool: str, before: int, after: int) -> None:
    if not connection.execute(_WRITE_MADE, {"of_key": _key(pool), "new_value": str(after)}).rowcount:
        connection.execute(insert(meta).values(key=_key(pool), value=str(after)))


def _room(connection: Connection, pool: str, at_most: int, wanted: int) -> int:
    """For how many of `wanted` there is, beside runners of the pool short of done and machines of it whose runner is.

    Which machines those are matters only where there may be too little."""
    mine = {"pool": NAMED + pool, "owners": f"{NAMED}{pool}/"}
    most_there = connection.execute(_COUNTS, mine).one()
    if sum(most_there) + wanted <= at_most:
        return wanted
    runners = set(connection.scalars(_RUNNERS, mine))
    without = sum(owner.partition("#")[2] not in runners for owner in connection.scalars(_OWNERS, mine))
    return max(0, min(wanted, at_most - len(runners) - without))
