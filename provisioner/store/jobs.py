"""Rows of jobs and attempts: submitted once, moved by compare-and-set, never two live attempts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from provisioner.domain import lifecycle
from provisioner.domain.errors import Conflict, InvalidRequest, NotFound, StaleWrite
from provisioner.domain.job import (
    NO_REASON,
    Attempt,
    AttemptPhase,
    Instance,
    InstancePhase,
    Job,
    JobPhase,
    Outcome,
    Reason,
)

from . import codec, ledger
from .schema import attempts, events, instances, jobs, manifests, readings, runners, secrets, segments
from .sql import Database
from .versioned import Kept, change

_turn = func.row_number().over(partition_by=jobs.c.owner, order_by=(jobs.c.created_at, jobs.c.id))
_queued = (
    select(jobs.c.id, jobs.c.version, jobs.c.created_at, _turn.label("turn")).where(jobs.c.phase == "queued").subquery()
)
_FAIRLY = (
    select(_queued.c.id, _queued.c.version)
    .order_by(_queued.c.turn, _queued.c.created_at, _queued.c.id)
    .limit(bindparam("most"))
)
_NEWEST = select(jobs.c.id, jobs.c.version).order_by(jobs.c.id.desc()).limit(bindparam("most"))
_IN_PHASES = _NEWEST.where(jobs.c.phase.in_(bindparam("phases", expanding=True)))
_ATTEMPTS = select(attempts).order_by(attempts.c.job_id, attempts.c.number)
_LIVE_ATTEMPTS = _ATTEMPTS.where(attempts.c.phase != "ended")


class SqlJobs:
    """The Jobs port."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self.kept = Kept(database, jobs, codec.job)

    async def submit(self, job: Job) -> Job:
        def work(connection: Connection) -> Job:
            there = connection.execute(select(jobs).where(jobs.c.id == job.id)).mappings().first()
            if there is not None:
                return codec.job(there)
            connection.execute(insert(jobs).values(**codec.job_row(job)))
            ledger.note(connection, "job.queued", job.created_at, job.spec.name, job_id=job.id)
            return job

        return await self._db.insert(work)

    async def get(self, job_id: str) -> Job:
        def work(connection: Connection) -> list[Job]:
            for condition, limit in (
                (jobs.c.id == job_id, 1),
                (jobs.c.id.startswith(job_id, autoescape=True), 2),
                (jobs.c.name == job_id, 1),
            ):
                query = select(jobs).where(condition).order_by(jobs.c.id.desc()).limit(limit)
                if found := [codec.job(row) for row in connection.execute(query).mappings()]:
                    return found
            return []

        found = await self._db.run(work) if job_id else []
        if not found:
            raise NotFound(f"no job {job_id!r}", hint="`runner ps -a` lists them")
        if len(found) > 1:
            raise InvalidRequest(f"{job_id!r} could be several jobs", hint="give more of the id")
        return found[0]

    async def find(self, *, owner: str | None = None, phases: Collection[JobPhase] = (), limit: int = 100) -> list[Job]:
        query = _IN_PHASES if phases else _NEWEST
        if owner is not None:
            query = query.where(jobs.c.owner == owner)
        values = {"most": limit} | ({"phases": [str(p) for p in phases]} if phases else {})
        return await self._db.run(lambda c: self.kept.read(c, query, values))

    async def waiting(self, limit: int = 1000) -> list[Job]:
        return await self._db.run(lambda c: self.kept.read(c, _FAIRLY, {"most": limit}))

    async def finish(
        self, job: Job, outcome: Outcome, reason: Reason, at: datetime, *, exit_code: int | None = None
    ) -> Job:
        if job.phase is JobPhase.RUNNING:
            raise Conflict(f"{job.id} has a live attempt")

        def work(connection: Connection) -> Job:
            changes = {"outcome": outcome, "reason": reason, "ended_at": at, "exit_code": exit_code}
            return self._move(connection, job, JobPhase.DONE, at, f"{outcome} {reason}".strip(), changes)

        return await self._db.run(work)

    async def explain(self, job: Job, reason: Reason, at: datetime) -> Job:
        if job.reason == reason:
            return job

        def work(connection: Connection) -> Job:
            self._write(connection, job, {"reason": reason})
            ledger.note(connection, "job.waits", at, str(reason), job_id=job.id)
            return replace(job, version=job.version + 1, reason=reason)

        return await self._db.run(work)

    async def ask_cancel(self, job_id: str, at: datetime, *, now: bool = False) -> Job:
        job = await self.get(job_id)
        if job.phase is JobPhase.DONE or (job.cancel_asked_at is not None and job.cancel_now >= now):
            return job

        def work(connection: Connection) -> Job:
            changes = {"cancel_asked_at": job.cancel_asked_at or at, "cancel_now": now or job.cancel_now}
            self._write(connection, job, changes)
            ledger.note(connection, "job.cancel_asked", at, "at once" if now else "kindly", job_id=job.id)
            return replace(job, version=job.version + 1, **changes)  # type: ignore[arg-type]

        try:
            return await self._db.run(work)
        except StaleWrite:
            return await self.ask_cancel(job_id, at, now=now)

    async def assign(self, job: Job, instance: Instance, at: datetime) -> Attempt:
        attempt = Attempt(job.id, job.attempts + 1, instance.id, AttemptPhase.ASSIGNED, at)

        def work(connection: Connection) -> Attempt:
            ready = and_(
                instances.c.id == instance.id,
                instances.c.phase == str(InstancePhase.READY),
                instances.c.version == instance.version,
                instances.c.stop_asked_at.is_(None),
            )
            if connection.execute(update(instances).where(ready).values(version=instance.version + 1)).rowcount != 1:
                raise StaleWrite(f"{instance.id} is not ready any more")
            changes = {"attempts": attempt.number, "started_at": job.started_at or at, "reason": NO_REASON}
            self._move(connection, job, JobPhase.RUNNING, at, f"attempt {attempt.number} on {instance.id}", changes)
            row = {"job_id": job.id, "number": attempt.number, "instance_id": instance.id}
            connection.execute(insert(attempts).values(**row, phase=str(attempt.phase), assigned_at=at.timestamp()))
            ledger.charge(connection, instance, "setup", at, job_id=job.id, attempt=attempt.number)
            return attempt

        try:
            return await self._db.run(work)
        except IntegrityError as error:
            raise StaleWrite(f"{job.id} or {instance.id} has a live attempt") from error

    async def started(self, attempt: Attempt, at: datetime) -> Attempt:
        lifecycle.check(lifecycle.ATTEMPT, attempt.phase, AttemptPhase.RUNNING, attempt.key)

        def work(connection: Connection) -> Attempt:
            self._move_attempt(connection, attempt, {"phase": AttemptPhase.RUNNING, "started_at": at})
            instance = self._instance(connection, attempt)
            ledger.charge(connection, instance, "compute", at, job_id=attempt.job_id, attempt=attempt.number)
            self._note(connection, attempt, "attempt.started", at)
            return replace(attempt, phase=AttemptPhase.RUNNING, started_at=at)

        return await self._db.run(work)

    async def end(
        self,
        attempt: Attempt,
        reason: Reason,
        at: datetime,
        *,
        exit_code: int | None = None,
        outcome: Outcome | None = None,
        counts: bool = True,
        facts: Mapping[str, object] | None = None,
        results_complete: bool = False,
        log_complete: bool = False,
    ) -> Job:
        def work(connection: Connection) -> Job:
            there = connection.execute(select(jobs).where(jobs.c.id == attempt.job_id)).mappings().one()
            job = codec.job(there)
            changes: dict[str, Any] = {
                "phase": AttemptPhase.ENDED,
                "ended_at": at,
                "exit_code": exit_code,
                "reason": reason,
                "results_complete": results_complete,
                "log_complete": log_complete,
                "facts": dict(facts or attempt.facts),
            }
            if not self._move_attempt(connection, attempt, changes, needed=False):
                return job
            instance = self._instance(connection, attempt)
            if instance.phase is InstancePhase.READY:
                ledger.charge(connection, instance, "warm_idle", at)
            self._note(connection, attempt, "attempt.ended", at, _how(exit_code, reason))
            if outcome is None:
                failures = job.failures + (1 if counts else 0)
                more = {"failures": failures, "reason": reason}
                return self._move(connection, job, JobPhase.QUEUED, at, _how(exit_code, reason), more)
            done = {"outcome": outcome, "reason": reason, "ended_at": at, "exit_code": exit_code}
            return self._move(connection, job, JobPhase.DONE, at, f"{outcome} ({_how(exit_code, reason)})", done)

        return await self._db.run(work)

    async def attempts(self, job_id: str) -> list[Attempt]:
        return await self._attempts(_ATTEMPTS.where(attempts.c.job_id == job_id))

    async def attempt(self, job_id: str, number: int) -> Attempt:
        one = and_(attempts.c.job_id == job_id, attempts.c.number == number)
        found = await self._attempts(_ATTEMPTS.where(one))
        if not found:
            raise NotFound(f"no attempt {number} of {job_id}")
        return found[0]

    async def live_attempts(self) -> list[Attempt]:
        return await self._attempts(_LIVE_ATTEMPTS)

    async def delete(self, job_id: str) -> None:
        job = await self.get(job_id)
        if job.phase is not JobPhase.DONE:
            raise Conflict(f"{job.id} is {job.phase}", hint="cancel it first")

        def work(connection: Connection) -> None:
            for table in (attempts, events, manifests, readings, secrets, segments):
                connection.execute(delete(table).where(table.c.job_id == job.id))
            gone = runners.c.gone_at.is_not(None)
            connection.execute(delete(runners).where(runners.c.job_id == job.id, gone))
            connection.execute(delete(jobs).where(jobs.c.id == job.id))

        await self._db.run(work)
        self.kept.forget()  # its id, and its versions, may come again

    async def _attempts(self, query: Select[Any]) -> list[Attempt]:
        return await self._db.run(lambda c: [codec.attempt(row) for row in c.execute(query).mappings()])

    def _instance(self, connection: Connection, attempt: Attempt) -> Instance:
        query = select(instances).where(instances.c.id == attempt.instance_id)
        return codec.instance(connection.execute(query).mappings().one())

    def _move(
        self, connection: Connection, job: Job, to: JobPhase, at: datetime, message: str, changes: dict[str, Any]
    ) -> Job:
        lifecycle.check(lifecycle.JOB, job.phase, to, job.id)
        changes = {"phase": to, **changes}
        self._write(connection, job, changes)
        what = {JobPhase.QUEUED: "job.requeued", JobPhase.RUNNING: "job.assigned", JobPhase.DONE: "job.done"}
        attempt = changes.get("attempts", job.attempts)
        ledger.note(connection, what.get(to, f"job.{to}"), at, message, job_id=job.id, attempt=attempt)
        return replace(job, version=job.version + 1, **changes)

    def _write(self, connection: Connection, job: Job, changes: dict[str, Any]) -> None:
        change(connection, jobs, job, codec.plain(changes))

    def _move_attempt(
        self, connection: Connection, attempt: Attempt, changes: dict[str, Any], *, needed: bool = True
    ) -> bool:
        live = AttemptPhase.ASSIGNED if changes["phase"] is AttemptPhase.RUNNING else None
        condition = and_(
            attempts.c.job_id == attempt.job_id,
            attempts.c.number == attempt.number,
            attempts.c.phase == str(live) if live else attempts.c.phase != "ended",
        )
        moved = connection.execute(update(attempts).where(condition).values(**codec.plain(changes))).rowcount == 1
        if needed and not moved:
            raise StaleWrite(f"{attempt.key} is not {live} any more")
        return moved

    def _note(self, connection: Connection, attempt: Attempt, what: str, at: datetime, message: str = "") -> None:
        where = {"job_id": attempt.job_id, "attempt": attempt.number, "instance_id": attempt.instance_id}
        ledger.note(connection, what, at, message, **where)  # type: ignore[arg-type]


def _how(exit_code: int | None, reason: Reason) -> str:
    if exit_code is not None and reason.why in ("", "exit"):
        return f"exit {exit_code}"
    return str(reason) + (f", exit {exit_code}" if exit_code is not None else "")
