"""The database's own thread: what is urgent overtakes what is not, and everything else keeps its order."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import IntegrityError

from provisioner.domain.errors import StaleWrite, StoreError
from provisioner.domain.urgency import is_urgent, urgently
from provisioner.store.lane import Lane, Outcome
from provisioner.store.sql import Database, connect


def together(works: Sequence[Callable[[], Any]]) -> Sequence[Outcome]:
    return [outcome(work) for work in works]


def outcome(work: Callable[[], Any]) -> Outcome:
    try:
        return work(), None
    except ArithmeticError as error:
        return None, error


def test_what_is_urgent_comes_first_and_the_rest_in_its_order() -> None:
    lane, gate, done = Lane("test", together), Event(), list[str]()
    lane.submit(gate.wait, urgent=False)
    for name in ("a", "b!", "c", "d!"):
        lane.submit(lambda name=name: done.append(name), urgent=name.endswith("!"))
    gate.set()
    lane.close()
    assert done == ["b!", "d!", "a", "c"]
    with pytest.raises(RuntimeError, match="closed"):
        lane.submit(gate.wait, urgent=True)


def test_what_failed_is_told_to_who_asked_and_what_is_not_wanted_is_left_out() -> None:
    lane, gate, done = Lane("test", together), Event(), list[str]()
    lane.submit(gate.wait, urgent=False)
    failing = lane.submit(lambda: 1 // 0, urgent=False)
    unwanted = lane.submit(lambda: done.append("unwanted"), urgent=False)
    assert unwanted.cancel()
    gate.set()
    lane.close()
    assert isinstance(failing.exception(), ZeroDivisionError)
    assert done == []


async def test_urgency_is_inherited_by_tasks_and_ends_with_its_block() -> None:
    async def told() -> bool:
        return is_urgent()

    async def relaxed() -> bool:
        with urgently(False):
            return is_urgent()

    with urgently():
        found = await asyncio.gather(told(), relaxed())
    assert (list(found), is_urgent()) == ([True, False], False)


# What waits shares a commit


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    made = Database(connect(f"sqlite:///{tmp_path}/lane.db"), inline=False)
    await made.run(lambda connection: connection.execute(text("create table told (word text unique)")) and None)
    yield made
    await made.close()


def tell(word: str) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        connection.execute(text("insert into told values (:word)"), {"word": word})

    return work


def told(connection: Connection) -> list[str]:
    return list(connection.scalars(text("select word from told order by rowid")))


async def at_once(database: Database, *works: Callable[[Connection], Any]) -> list[Any]:
    """All of them wait while another is at work."""
    begun, gate, tasks = Event(), Event(), list[asyncio.Task[Any]]()

    def first(connection: Connection) -> None:
        begun.set()
        gate.wait(10)
        tell("first")(connection)

    tasks.append(asyncio.create_task(database.run(first)))
    await asyncio.to_thread(begun.wait, 10)
    for work in works:
        tasks.append(asyncio.create_task(database.run(work)))
        await asyncio.sleep(0)
    gate.set()
    return (await asyncio.gather(*tasks, return_exceptions=True))[1:]


async def test_what_waits_is_committed_together(database: Database) -> None:
    commits = list[str]()
    event.listen(database.engine, "commit", lambda _: commits.append("commit"))
    await at_once(database, *(tell(word) for word in "abcdefgh"))
    assert await database.run(told) == ["first", *"abcdefgh"]
    assert len(commits) <= 4  # the first, those that waited, and the look just now


async def test_what_one_of_them_raises_undoes_that_one_alone(database: Database) -> None:
    def stale(connection: Connection) -> None:
        tell("half")(connection)
        raise StaleWrite("somebody was faster")

    found = await at_once(database, tell("a"), stale, tell("a"), tell("b"))
    assert [type(one) for one in found] == [type(None), StaleWrite, IntegrityError, type(None)]
    assert await database.run(told) == ["first", "a", "b"]


async def test_when_the_database_fails_none_of_them_has_happened_and_each_is_told(database: Database) -> None:
    """SQLite undoes all of a transaction for some failures of its own, whoever met them."""

    def broken(connection: Connection) -> None:
        connection.execute(text("rollback"))
        connection.execute(text("insert into nowhere values (1)"))

    found = await at_once(database, tell("a"), broken, tell("b"))
    assert [type(one) for one in found] == [StoreError, StoreError, StoreError]
    assert await database.run(told) == ["first"]


async def test_after_a_failure_at_either_end_of_a_transaction_the_next_one_is_whole(
    database: Database, tmp_path: Path
) -> None:
    await database.run(lambda connection: connection.execute(text("pragma busy_timeout=0")) and None)
    with contextlib.closing(sqlite3.connect(tmp_path / "lane.db", isolation_level=None)) as other:
        other.execute("begin immediate")
        with pytest.raises(StoreError, match="database is locked"):
            await database.run(tell("a"))
        other.execute("rollback")
    await database.run(tell("b"))

    def never_whole(connection: Connection) -> None:
        tell("c")(connection)
        connection.execute(text("create table owners (id integer primary key)"))
        connection.execute(text("create table owned (owner references owners deferrable initially deferred)"))
        connection.execute(text("insert into owned values (7)"))

    with pytest.raises(IntegrityError):
        await database.run(never_whole)
    await database.run(tell("d"))
    assert await database.run(told) == ["b", "d"]


async def test_who_was_not_first_looks_again(database: Database) -> None:
    """As on a database where somebody else's row comes between the look and the insert."""
    tries = list[int]()

    def work(connection: Connection) -> list[str]:
        tries.append(1)
        if len(tries) == 1:
            tell("a")(connection)
            tell("a")(connection)
        return told(connection)

    assert (await database.insert(work), len(tries)) == ([], 2)
