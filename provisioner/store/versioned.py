"""Rows with a version, which grows with every change of what is decoded of them: changed by compare-and-set, and kept
as they were decoded last, so that what every pass asks for is read again only where it has changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import Connection, RowMapping, Select, Table, Update, bindparam, select, update

from provisioner.domain.errors import StaleWrite

from .sql import Database, portions

_MOST = 20_000  # arbitrary: rows that are kept; twice what one controller was measured with


class Versioned(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def version(self) -> int: ...


V = TypeVar("V", bound=Versioned)


class Kept(Generic[V]):
    """Of one table, with columns `id` and `version`."""

    def __init__(self, database: Database, table: Table, decode: Callable[[RowMapping], V]) -> None:
        self._db = database
        self._decode = decode
        self._rows: dict[str, V] = {}
        self._undone = 0
        self._these = select(table).where(table.c.id.in_(bindparam("ids", expanding=True)))

    def read(self, connection: Connection, which: Select[Any], values: Mapping[str, Any]) -> list[V]:
        """Those that `which` names, in its order, by id and version; named anew when others change them meanwhile."""
        if self._undone != self._db.undone or len(self._rows) > _MOST:
            self._undone, self._rows = self._db.undone, {}
        rows = self._rows
        while True:
            named = connection.execute(which, values).all()
            self._fetch(connection, [key for key, version in named if _version(rows.get(key)) != version])
            found = [row for key, version in named if (row := rows.get(key)) is not None and row.version == version]
            if len(found) == len(named):
                return found

    def _fetch(self, connection: Connection, keys: Sequence[str]) -> None:
        for some in portions(keys):
            for row in connection.execute(self._these, {"ids": some}).mappings():
                self._rows[row["id"]] = self._decode(row)

    def forget(self) -> None:
        self._rows = {}


def change(connection: Connection, table: Table, row: Versioned, columns: Mapping[str, Any], **also: Any) -> None:
    """Write `columns` of it if it has not changed, and if what `also` names still is so. Raises: StaleWrite."""
    given = {f"new_{name}": value for name, value in columns.items()}
    held = {f"is_{name}": value for name, value in also.items()}
    statement = _changing(table, tuple(columns), tuple(also))
    mine = {"is_id": row.id, "is_version": row.version, "new_version": row.version + 1}
    if connection.execute(statement, given | held | mine).rowcount != 1:
        raise StaleWrite(f"{row.id} was changed by somebody else")


@lru_cache(maxsize=256)
def _changing(table: Table, columns: tuple[str, ...], also: tuple[str, ...]) -> Update:
    """Built once: building a statement takes longer than SQLite takes to run it."""
    held = [table.c[name] == bindparam(f"is_{name}") for name in ("id", "version", *also)]
    return update(table).where(*held).values({name: bindparam(f"new_{name}") for name in (*columns, "version")})


def _version(row: Versioned | None) -> int:
    return -1 if row is None else row.version
