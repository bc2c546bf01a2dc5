"""Records of runners at forges: the row first, and kept until the forge confirms that the record is gone."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, case, func, insert, or_, select, update

from provisioner.domain.forge import ForgeKind, Site
from provisioner.domain.job import Attempt, Reason, Why
from provisioner.domain.runners import RunnerRow

from . import codec
from .schema import awaited, runners
from .sql import Database, own_insert, portions

_THERE = select(runners).where(runners.c.gone_at.is_(None)).order_by(runners.c.asked_at)


class SqlRunners:
    """The Runners port."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def expect(self, attempt: Attempt, site: Site, instance_name: str, at: datetime) -> RunnerRow:
        def work(connection: Connection) -> RunnerRow:
            mine = select(runners).where(runners.c.job_id == attempt.job_id, runners.c.number == attempt.number)
            if (row := connection.execute(mine).mappings().one_or_none()) is not None:
                return _row(row)
            same = select(func.count()).where(runners.c.instance_id == attempt.instance_id)
            before = connection.scalar(same) or 0
            name = f"{instance_name}-{before + 1}" if before else instance_name
            fresh = RunnerRow(name, site, attempt.job_id, attempt.number, attempt.instance_id, at)
            connection.execute(insert(runners).values(**_values(fresh)))
            return fresh

        return await self._db.insert(work)

    async def note(
        self,
        name: str,
        *,
        forge_id: str = "",
        online_at: datetime | None = None,
        busy_at: datetime | None = None,
        unwanted_at: datetime | None = None,
        gone_at: datetime | None = None,
        reason: Reason | None = None,
    ) -> None:
        given = {"online_at": online_at, "busy_at": busy_at, "unwanted_at": unwanted_at, "gone_at": gone_at}
        firsts = {key: func.coalesce(runners.c[key], codec.stamp(at)) for key, at in given.items() if at is not None}
        changes: dict[str, Any] = {**firsts, **({"forge_id": forge_id} if forge_id else {})}
        if reason is not None:
            changes |= {"why": str(reason.why), "detail": reason.detail}
            if reason.why is Why.NONE:
                changes["unwanted_at"] = None
        await self._db.run(
            lambda c: c.execute(update(runners).where(runners.c.name == name).values(**changes)) and None
        )

    async def there(self) -> list[RunnerRow]:
        return await self._db.run(lambda c: [_row(row) for row in c.execute(_THERE).mappings()])

    async def of_job(self, job_id: str) -> list[RunnerRow]:
        query = select(runners).where(runners.c.job_id == job_id).order_by(runners.c.number)
        return await self._db.run(lambda c: [_row(row) for row in c.execute(query).mappings()])

    async def note_waits(self, job_id: str, at: datetime | None) -> None:
        def work(connection: Connection) -> None:
            statement = own_insert(connection, awaited).values(job_id=job_id, at=codec.stamp(at) if at else None)
            latest = {"at": case((awaited.c.at.is_(None), None), else_=statement.excluded.at)}
            connection.execute(statement.on_conflict_do_update(index_elements=["job_id"], set_=latest))

        await self._db.run(work)

    async def waited_for(self, job_ids: Collection[str]) -> dict[str, datetime | None]:
        def work(connection: Connection) -> dict[str, datetime | None]:
            queries = (select(awaited).where(awaited.c.job_id.in_(some)) for some in portions(job_ids))
            found = (connection.execute(query) for query in queries)
            return {row.job_id: codec.when_or_none(row.at) for rows in found for row in rows}

        return await self._db.run(work)

    async def sites(self, since: datetime) -> set[Site]:
        c = runners.c
        late = or_(c.gone_at.is_(None), c.gone_at > since.timestamp())
        query = select(c.kind, c.base, c.path).where(late).distinct()
        return await self._db.run(lambda d: {Site(ForgeKind(one.kind), one.base, one.path) for one in d.execute(query)})

    async def known(self, names: Collection[str]) -> set[str]:
        query = select(runners.c.name).where(runners.c.name.in_(names))
        return await self._db.run(lambda c: set(c.scalars(query)))


def _values(row: RunnerRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "kind": str(row.site.kind),
        "base": row.site.base,
        "path": row.site.path,
        "job_id": row.job_id,
        "number": row.number,
        "instance_id": row.instance_id,
        "asked_at": codec.stamp(row.asked_at),
    }


def _row(row: RowMapping) -> RunnerRow:
    return RunnerRow(
        name=row["name"],
        site=Site(ForgeKind(row["kind"]), row["base"], row["path"]),
        job_id=row["job_id"],
        number=row["number"],
        instance_id=row["instance_id"],
        asked_at=codec.when(row["asked_at"]),
        forge_id=row["forge_id"],
        online_at=codec.when_or_none(row["online_at"]),
        busy_at=codec.when_or_none(row["busy_at"]),
        unwanted_at=codec.when_or_none(row["unwanted_at"]),
        gone_at=codec.when_or_none(row["gone_at"]),
        reason=Reason(Why(row["why"]), row["detail"]),
    )
