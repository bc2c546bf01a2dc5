"""Controllers that share this database: who is there, and which agents any of them has heard. All ages are differences
of the database's own clock, because no two controllers' clocks can be compared."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, Table, delete, select

from provisioner.domain.store import Attendance, Other

from .schema import controllers, heard
from .sql import Database, own_insert


class SqlControllers:
    """The Controllers port."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def attend(
        self, holder: str, urls: Collection[str], agents: Collection[str], now: datetime, *, anew: bool, forget_s: float
    ) -> Attendance:
        def work(connection: Connection) -> Attendance:
            clock = self._db.server_now(connection, now)
            since = {} if not anew else {"since": clock}
            mine = {"holder": holder, "urls": json.dumps(sorted(urls)), "since": clock, "seen_at": clock}
            self._put(connection, controllers, [mine], {"urls", "seen_at", *since})
            self._put(connection, heard, [{"instance_id": key, "at": clock} for key in agents], {"at"})
            for table, column in ((controllers, controllers.c.seen_at), (heard, heard.c.at)):
                connection.execute(delete(table).where(column < clock - forget_s))
            others = [
                Other(row.holder, tuple(json.loads(row.urls)), clock - row.since, clock - row.seen_at)
                for row in connection.execute(select(controllers).where(controllers.c.holder != holder))
            ]
            ages = {row.instance_id: clock - row.at for row in connection.execute(select(heard))}
            return Attendance(tuple(others), ages)

        return await self._db.run(work)

    async def leave(self, holder: str) -> None:
        await self._db.run(lambda c: c.execute(delete(controllers).where(controllers.c.holder == holder)) and None)

    def _put(self, connection: Connection, table: Table, rows: list[dict[str, object]], changed: set[str]) -> None:
        if not rows:
            return
        statement = own_insert(connection, table).values(rows)
        key = [column.name for column in table.primary_key]
        values = {name: statement.excluded[name] for name in changed}
        connection.execute(statement.on_conflict_do_update(index_elements=key, set_=values))
