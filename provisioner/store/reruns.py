"""What runners were given, and what of it is to be run again."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, bindparam, case, func, insert, select, update

from provisioner.domain.forge import CiJob, ForgeKind, Site
from provisioner.domain.reruns import Rerun, RerunOutcome
from provisioner.domain.runners import RunnerRow

from . import codec
from .schema import reruns
from .sql import Database, portions

_PENDING = select(reruns).where(reruns.c.lost_at.is_not(None), reruns.c.done_at.is_(None)).order_by(reruns.c.lost_at)
_LOST_IN = select(reruns).where(
    reruns.c.run_id.in_(bindparam("run_ids", expanding=True)), reruns.c.lost_at.is_not(None)
)


class SqlReruns:
    """The Reruns port."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def given(self, row: RunnerRow, repository: str, run_id: str, name: str) -> None:
        said = {"repository": repository, "run_id": run_id, "ci_name": name}
        await self._put(row, {key: _first(key, value) for key, value in said.items()})

    async def lost(self, row: RunnerRow, at: datetime) -> None:
        await self._put(row, {"lost_at": func.coalesce(reruns.c.lost_at, codec.stamp(at))})

    async def _put(self, row: RunnerRow, changes: dict[str, Any]) -> None:
        """The row may be there or not."""

        def work(connection: Connection) -> None:
            mine = reruns.c.runner == row.name
            if connection.scalar(select(reruns.c.runner).where(mine)) is None:
                connection.execute(insert(reruns).values(**_values(row)))
            connection.execute(update(reruns).where(mine).values(forge_id=_first("forge_id", row.forge_id), **changes))

        await self._db.insert(work)

    async def found(self, runner: str, job: CiJob) -> None:
        named = {"repository": job.repository, "run_id": job.run_id}
        await self._set(runner, {**named, "ci_id": job.id, "ci_attempt": job.attempt, "ci_name": job.name})

    async def tried(self, runner: str, tries: int) -> None:
        await self._set(runner, {"tries": tries})

    async def done(self, runner: str, outcome: RerunOutcome, at: datetime) -> None:
        first = reruns.c.done_at.is_(None)
        query = update(reruns).where(reruns.c.runner == runner, first)
        changes = {"done_at": codec.stamp(at), "outcome": str(outcome)}
        await self._db.run(lambda c: c.execute(query.values(**changes)) and None)

    async def _set(self, runner: str, changes: dict[str, Any]) -> None:
        query = update(reruns).where(reruns.c.runner == runner).values(**changes)
        await self._db.run(lambda c: c.execute(query) and None)

    async def pending(self) -> list[Rerun]:
        return await self._all(_PENDING)

    async def of_job(self, job_id: str) -> list[Rerun]:
        return await self._all(select(reruns).where(reruns.c.job_id == job_id).order_by(reruns.c.number))

    async def _all(self, query: Select[Any]) -> list[Rerun]:
        return await self._db.run(lambda c: [_row(row) for row in c.execute(query).mappings()])

    async def asked(self, rerun: Rerun) -> int:
        c, site = reruns.c, rerun.site
        same = (c.run_id == rerun.run_id, c.ci_name == rerun.ci_name, c.repository == rerun.repository)
        query = select(func.count()).where(c.base == site.base, *same, c.outcome == str(RerunOutcome.ASKED))
        return await self._db.run(lambda d: d.scalar(query) or 0)

    async def lost_in(self, run_ids: Collection[str]) -> list[Rerun]:
        def work(connection: Connection) -> list[Rerun]:
            found = (connection.execute(_LOST_IN, {"run_ids": some}).mappings() for some in portions(run_ids))
            return [_row(row) for rows in found for row in rows]

        return await self._db.run(work)


def _first(name: str, value: str) -> ColumnElement[str]:
    return case((reruns.c[name] == "", value), else_=reruns.c[name])


def _values(row: RunnerRow) -> dict[str, Any]:
    return {
        "runner": row.name,
        "kind": str(row.site.kind),
        "base": row.site.base,
        "path": row.site.path,
        "job_id": row.job_id,
        "number": row.number,
    }


def _row(row: RowMapping) -> Rerun:
    return Rerun(
        runner=row["runner"],
        site=Site(ForgeKind(row["kind"]), row["base"], row["path"]),
        job_id=row["job_id"],
        number=row["number"],
        forge_id=row["forge_id"],
        repository=row["repository"],
        run_id=row["run_id"],
        ci_id=row["ci_id"],
        ci_attempt=row["ci_attempt"],
        ci_name=row["ci_name"],
        lost_at=codec.when_or_none(row["lost_at"]),
        tries=row["tries"],
        done_at=codec.when_or_none(row["done_at"]),
        outcome=RerunOutcome(row["outcome"]),
    )
