"""The Store's laws on SQLite, and what only SQLite promises."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

from provisioner.domain.budget import Budget, Period
from provisioner.domain.errors import StoreError
from provisioner.domain.store import Store
from provisioner.store.migrate import upgrade
from provisioner.store.open import open_store
from provisioner.store.schema import metadata

from .budget_laws import BudgetLaws, ended, launched, plan
from .ci_job_laws import CiJobLaws
from .origin_laws import OriginLaws
from .rerun_laws import RerunLaws
from .runner_laws import RunnerLaws
from .store_laws import StoreLaws

KEY = b"k" * 32


class TestSqlite(StoreLaws, BudgetLaws, CiJobLaws, OriginLaws, RunnerLaws, RerunLaws):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        store = await open_store(f"sqlite:///{tmp_path}/runner.db", secret_key=KEY)
        yield store
        await store.close()


class TestSqliteInline(StoreLaws, BudgetLaws, CiJobLaws, OriginLaws, RunnerLaws, RerunLaws):
    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        store = await open_store("sqlite://", secret_key=KEY, inline=True)
        yield store
        await store.close()


async def test_nobody_else_may_read_the_file(tmp_path: Path) -> None:
    store = await open_store(f"sqlite:///{tmp_path / 'runner.db'}", secret_key=KEY)
    try:
        modes = [(tmp_path / f"runner.db{end}").stat().st_mode & 0o077 for end in ("", "-wal", "-shm")]
        assert modes == [0, 0, 0]
    finally:
        await store.close()


async def test_one_controller_at_a_time(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runner.db"
    store = await open_store(url, secret_key=KEY)
    with pytest.raises(StoreError, match="in use by pid"):
        await open_store(url, secret_key=KEY)
    await store.close()
    await (await open_store(url, secret_key=KEY)).close()


async def test_a_newer_database_is_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runner.db"
    await (await open_store(url, secret_key=KEY)).close()
    with sqlite3.connect(tmp_path / "runner.db") as database:
        database.execute("update alembic_version set version_num = '9999'")
    with pytest.raises(StoreError, match="newer than this program"):
        await open_store(url, secret_key=KEY)


async def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "runner.db") as database:
        database.execute("create table theirs (x)")
    with pytest.raises(StoreError, match="belongs to something else"):
        await open_store(f"sqlite:///{tmp_path}/runner.db", secret_key=KEY)


async def test_no_secret_is_in_the_file(tmp_path: Path) -> None:
    store = await open_store(f"sqlite:///{tmp_path}/runner.db", secret_key=KEY)
    await store.records.put_secret("ann", "TOKEN", "correct-horse-battery")
    await store.close()
    held = _bytes_under(tmp_path)
    assert b"TOKEN" in held
    assert b"correct-horse" not in held


def test_migrations_lead_to_the_same_schema(tmp_path: Path) -> None:
    migrated = create_engine(f"sqlite:///{tmp_path}/migrated.db")
    upgrade(migrated)
    found = {name: _columns(migrated, name) for name in inspect(migrated).get_table_names() if name[:7] != "alembic"}
    made = create_engine(f"sqlite:///{tmp_path}/made.db")
    metadata.create_all(made)
    assert found == {name: _columns(made, name) for name in inspect(made).get_table_names()}


def test_what_was_made_before_a_column_came_gets_it(tmp_path: Path) -> None:
    old, new = (create_engine(f"sqlite:///{tmp_path}/{name}.db") for name in ("old", "new"))
    for engine in (old, new):
        upgrade(engine, "0006")
    with old.begin() as connection:
        connection.execute(text("drop index ci_jobs_changed"))
        connection.execute(text("alter table ci_jobs drop column changed"))
    for engine in (old, new):
        upgrade(engine)
    assert _columns(old, "ci_jobs") == _columns(new, "ci_jobs")
    old_indexes, new_indexes = ({one["name"] for one in inspect(e).get_indexes("ci_jobs")} for e in (old, new))
    assert old_indexes == new_indexes


async def test_what_was_spent_before_there_were_sums_is_added_up(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runner.db"
    store = await open_store(url, secret_key=KEY)
    free = Budget(Decimal(99), Period.DAY)
    for key, owner in (("i-1", "ci.a#j-1"), ("i-2", "ci.a#j-2"), ("i-3", "ann")):
        await ended(store, await launched(store, await plan(store, key, owner, budget=free), 0), 13)
    await launched(store, await plan(store, "i-4", budget=free, at=13), 13)
    await store.close()
    with sqlite3.connect(tmp_path / "runner.db") as database:
        sums = "select period, owner, nano_usd from spending order by period, owner"
        before = database.execute(sums).fetchall()
        database.execute("drop table spending")
        database.execute("drop index instances_living")
        database.execute("update alembic_version set version_num = '0007'")
    await (await open_store(url, secret_key=KEY)).close()
    with sqlite3.connect(tmp_path / "runner.db") as database:
        assert database.execute(sums).fetchall() == before
        assert database.execute("select 1 from sqlite_master where name = 'instances_living'").fetchall()
    assert before == [
        *(("2026-01", "ann", 12 * 10**9), ("2026-01", "ci.a", 24 * 10**9)),
        *(("2026-01-31", "ann", 12 * 10**9), ("2026-01-31", "ci.a", 24 * 10**9)),
        *(("2026-02", "ann", 10**9), ("2026-02", "ci.a", 2 * 10**9)),
        *(("2026-02-01", "ann", 10**9), ("2026-02-01", "ci.a", 2 * 10**9)),
    ]


def _bytes_under(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


def _columns(engine: object, table: str) -> list[tuple[str, str, bool]]:
    return [(c["name"], str(c["type"]), c["nullable"]) for c in inspect(engine).get_columns(table)]  # type: ignore[attr-defined]
