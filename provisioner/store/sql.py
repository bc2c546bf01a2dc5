"""Engines and transactions. Everything that touches the database is a function of a connection, run in one transaction.

SQLite: one connection, used by one thread; `BEGIN IMMEDIATE`; `synchronous=FULL`, so that an intent survives power
loss; what waits for the thread shares one commit, and is undone by itself. PostgreSQL: a small pool; row locks where
two controllers could meet. `inline` runs on the calling thread.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import BindParameter, ColumnElement, Connection, Engine, Table, create_engine, event, func, select
from sqlalchemy.exc import DatabaseError, DBAPIError, IntegrityError, OperationalError
from sqlalchemy.pool import StaticPool

from provisioner.domain.errors import StoreError
from provisioner.domain.extras import installed_by
from provisioner.domain.urgency import is_urgent

from .lane import Lane, Outcome

T = TypeVar("T")
K = TypeVar("K")
_POOL = 8
_AT_ONCE = 500  # arbitrary


class Database:
    """Where functions of a connection run. `undone` counts transactions that came to nothing: what was read in one of
    them may not have been so."""

    def __init__(self, engine: Engine, *, inline: bool) -> None:
        self.engine = engine
        self.undone = 0
        self.sqlite = engine.dialect.name == "sqlite"
        self._only: Connection | None = None  # of the single thread that SQLite is used by
        self._lane = Lane("store", self._together) if self.sqlite and not inline else None
        pooled = not self.sqlite and not inline
        self._executor = ThreadPoolExecutor(_POOL, thread_name_prefix="store") if pooled else None

    async def run(self, work: Callable[[Connection], T]) -> T:
        """`work` in a transaction: all of it or nothing, and safe on disk when this returns. Cancelling the await does
        not undo it. On a single thread what is urgent comes first, and what waits there shares a transaction."""
        if self._lane is not None:
            return await asyncio.wrap_future(self._lane.submit(work, urgent=is_urgent()))
        return await self.call(lambda: self._in_transaction(work))

    async def insert(self, work: Callable[[Connection], T]) -> T:
        """`run`, of work that makes a row where none is: again where somebody else was first."""
        try:
            return await self.run(work)
        except IntegrityError:
            return await self.run(work)

    async def call(self, work: Callable[[], T]) -> T:
        """`work` on a thread of the database's own, before or beside any transaction."""
        if self._executor is not None:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        return work() if self._lane is None else await asyncio.to_thread(work)

    def _in_transaction(self, work: Callable[[Connection], T]) -> T:
        try:
            if not self.sqlite:
                with self.engine.begin() as connection:
                    return work(connection)
            return self._on_the_only(work)
        except OperationalError as error:
            raise StoreError(
                f"the database failed: {error.orig}", hint="is the disk full, or the server down?"
            ) from error

    def _on_the_only(self, work: Callable[[Connection], T]) -> T:
        if self._only is None:
            self._only = self.engine.connect()
        try:
            with self._only.begin():
                return work(self._only)
        except BaseException:
            broken, self._only = self._only, None
            broken.close()  # which undoes what a commit that failed has left open
            raise

    def _together(self, works: Sequence[Callable[[Connection], Any]]) -> Sequence[Outcome]:
        """What one of them raises undoes that one alone; when the database fails, none of them has happened."""
        try:
            if len(works) == 1:
                return [(self._in_transaction(works[0]), None)]
            return self._in_transaction(lambda connection: [_apart(connection, work) for work in works])
        except BaseException as error:
            self.undone += 1
            return [(None, error)] * len(works)

    def server_now(self, connection: Connection, now: datetime) -> float:
        """Leases end by one clock: the server's where several controllers share it."""
        if self.sqlite:
            return now.timestamp()
        return float(connection.scalar(select(func.extract("epoch", func.clock_timestamp()))) or 0.0)

    async def close(self) -> None:
        if self._lane is not None:
            self._lane.close()
        if self._executor is not None:
            self._executor.shutdown(wait=True)
        if self._only is not None:
            self._only.close()
            self._only = None
        self.engine.dispose()


def _apart(connection: Connection, work: Callable[[Connection], Any]) -> Outcome:
    _direct(connection, "SAVEPOINT apart")
    try:
        value = work(connection)
    except OperationalError:
        raise  # SQLite may have undone more than this one
    except BaseException as error:
        _direct(connection, "ROLLBACK TO apart")
        _direct(connection, "RELEASE apart")
        return None, error
    _direct(connection, "RELEASE apart")
    return value, None


def _direct(connection: Connection, statement: str) -> None:
    """What belongs to SQLite's transactions, past SQLAlchemy: it takes longer over a savepoint than most work does."""
    try:
        connection.connection.dbapi_connection.execute(statement)  # type: ignore[union-attr]
    except sqlite3.DatabaseError as error:
        kind = OperationalError if isinstance(error, sqlite3.OperationalError) else DatabaseError
        raise kind(statement, None, error) from error


def connect(url: str) -> Engine:
    """Raises: StoreError for a URL that is neither."""
    if url.startswith("sqlite"):
        return _sqlite(url)
    if url.startswith("postgresql"):
        if importlib.util.find_spec("psycopg") is None:
            raise StoreError("PostgreSQL needs psycopg", hint=installed_by("postgres"))
        return create_engine(
            url.replace("postgresql://", "postgresql+psycopg://", 1), pool_size=_POOL, pool_pre_ping=True
        )
    raise StoreError(f"unknown database {url.split(':')[0]!r}", hint="use sqlite:///PATH or postgresql://...")


def _sqlite(url: str) -> Engine:
    engine = create_engine(
        url, poolclass=StaticPool, connect_args={"check_same_thread": False, "isolation_level": None, "timeout": 30}
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        _direct(connection, "BEGIN IMMEDIATE")

    return engine


def begins_with(column: ColumnElement[str], prefix: str | BindParameter[str]) -> ColumnElement[bool]:
    """Letter by letter: SQLite's `like` makes no difference between a and A."""
    return func.substr(column, 1, func.length(prefix)) == prefix


def portions(values: Collection[K]) -> Iterator[list[K]]:
    """Databases limit the values of one statement."""
    every = list(values)
    return (every[begin : begin + _AT_ONCE] for begin in range(0, len(every), _AT_ONCE))


def own_insert(connection: Connection, table: Table) -> Any:
    """The dialect's own, which can change what is there; importing that of PostgreSQL takes 5 % of the start of a
    controller without it."""
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as own
    else:
        from sqlalchemy.dialects.postgresql import insert as own  # type: ignore[assignment]
    return own(table)


def is_unique_violation(error: DBAPIError) -> bool:
    return "unique" in str(error.orig).lower()
