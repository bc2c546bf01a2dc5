"""Opening the database: made when it is new, migrated when it is old (a copy kept first), refused when it is newer."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import insert, inspect, select, text, update
from sqlalchemy.exc import DatabaseError, OperationalError

from provisioner.domain.errors import StoreError

from .ci_jobs import SqlCiJobs
from .controllers import SqlControllers
from .hosts import SqlHosts
from .instances import SqlInstances
from .jobs import SqlJobs
from .records import SqlRecords
from .reruns import SqlReruns
from .runners import SqlRunners
from .schema import instances, meta, metadata
from .sealing import Sealer
from .sql import Database, connect

HEAD = "0008"
_KNOWN = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008")


class SqlStore:
    """The Store port."""

    def __init__(self, database: Database, sealer: Sealer, lock: contextlib.ExitStack) -> None:
        self.database = database
        self.jobs = SqlJobs(database)
        self.instances = SqlInstances(database)
        self.records = SqlRecords(database, sealer)
        self.controllers = SqlControllers(database)
        self.hosts = SqlHosts(database)
        self.runners = SqlRunners(database)
        self.ci_jobs = SqlCiJobs(database, self.jobs.kept)
        self.reruns = SqlReruns(database)
        self._lock = lock

    async def close(self) -> None:
        await self.database.close()
        self._lock.close()


async def open_store(url: str, *, secret_key: bytes, inline: bool = False, home: Path | None = None) -> SqlStore:
    """`inline` runs everything on the calling thread. Raises: StoreError, saying what to do."""
    with contextlib.ExitStack() as lock:
        path = url.removeprefix("sqlite:///") if url.startswith("sqlite:///") else ""
        if path:
            lock.enter_context(_sole(Path(path)))
        database = Database(connect(url), inline=inline)
        try:
            await database.call(lambda: _prepare(database, path))
        except (OperationalError, DatabaseError) as error:
            raise StoreError(f"cannot use the database: {error.orig}", hint="check its path, or its server") from error
        return SqlStore(database, Sealer(secret_key), lock.pop_all())


def _prepare(database: Database, path: str) -> None:
    with database.engine.connect() as connection:
        tables = set(inspect(connection).get_table_names())
    if not tables:
        _create(database)
    else:
        _check_version(database, path, tables)
    with database.engine.begin() as connection:
        if database.sqlite:  # one controller at a time: a lease of the one before means nothing
            connection.execute(update(instances).values(lease_until=0.0, lease_holder=""))


def _create(database: Database) -> None:
    """A new database, without paying for the import of alembic; a test proves that migrations lead to the same."""
    with database.engine.begin() as connection:
        metadata.create_all(connection)
        connection.execute(text("create table alembic_version (version_num varchar(32) not null primary key)"))
        connection.execute(text(f"insert into alembic_version values ('{HEAD}')"))
        if connection.scalar(select(meta.c.value).where(meta.c.key == "controller_id")) is None:
            connection.execute(insert(meta).values(key="controller_id", value=f"c-{secrets.token_hex(6)}"))


def _check_version(database: Database, path: str, tables: set[str]) -> None:
    if "alembic_version" not in tables:
        raise StoreError("this database belongs to something else", hint="name another in RUNNER_STORE_URL")
    with database.engine.connect() as connection:
        version = connection.scalar(text("select version_num from alembic_version"))
    if version == HEAD:
        return
    if version not in _KNOWN:
        raise StoreError(
            f"the database has schema {version}, newer than this program's {HEAD}; nothing was changed",
            hint="use the newer program, or `runner db restore` a backup from before the upgrade",
        )
    if path:
        _copy(path, f"{path}.before-{HEAD}")
    from .migrate import upgrade

    upgrade(database.engine)


def _copy(source: str, target: str) -> None:
    with sqlite3.connect(source) as reading, sqlite3.connect(target) as writing:
        reading.backup(writing)


@contextlib.contextmanager
def _sole(path: Path) -> Iterator[None]:
    """SQLite belongs to one controller. Raises: StoreError naming the holder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        lock = Path(f"{path}.lock").open("a+")  # noqa: SIM115  (held until the store closes)
    except OSError as error:
        raise StoreError(f"cannot use {path}: {error.strerror}", hint="check RUNNER_STORE_URL") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise StoreError(f"{path} is in use by pid {holder}", hint="one controller a SQLite database") from error
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        yield
