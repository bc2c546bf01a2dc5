"""Controllers that share a database: who is there, and what each has heard, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from provisioner.store.open import SqlStore, open_store
from tests.fakes import postgres

_FORGET_S = 60.0


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'runner.db'}"
    elif postgres.binaries() is None:
        pytest.skip("PostgreSQL is not installed")
    else:
        with postgres.server() as running:
            yield running


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlStore]:
    opened = await open_store(url, secret_key=b"k" * 32)
    yield opened
    await opened.close()


async def test_each_learns_of_the_others_and_of_whom_they_heard(store: SqlStore) -> None:
    now = datetime.now(UTC)
    alone = await store.controllers.attend("a", ["unix:/a"], ["i-1", "i-2"], now, anew=True, forget_s=_FORGET_S)
    assert alone.others == ()
    assert set(alone.heard_ages_s) == {"i-1", "i-2"}
    await asyncio.sleep(0.3)
    seen = await store.controllers.attend("b", ["unix:/b"], ["i-2"], datetime.now(UTC), anew=True, forget_s=_FORGET_S)
    (other,) = seen.others
    assert (other.holder, other.urls) == ("a", ("unix:/a",))
    assert 0.3 <= other.seen_age_s < 5
    assert other.since_age_s == other.seen_age_s
    assert seen.heard_ages_s["i-1"] >= 0.3 > seen.heard_ages_s["i-2"]


async def test_beginning_anew_is_told_from_being_there_still(store: SqlStore) -> None:
    now = datetime.now(UTC)
    await store.controllers.attend("a", [], [], now, anew=True, forget_s=_FORGET_S)
    await asyncio.sleep(0.3)
    await store.controllers.attend("a", [], [], datetime.now(UTC), anew=False, forget_s=_FORGET_S)
    (still,) = (await store.controllers.attend("b", [], [], datetime.now(UTC), anew=True, forget_s=_FORGET_S)).others
    assert still.since_age_s >= 0.3 > still.seen_age_s
    await store.controllers.attend("a", [], [], datetime.now(UTC), anew=True, forget_s=_FORGET_S)
    (anew,) = (await store.controllers.attend("b", [], [], datetime.now(UTC), anew=False, forget_s=_FORGET_S)).others
    assert anew.since_age_s < 0.3


async def test_who_leaves_and_what_is_old_is_forgotten(store: SqlStore) -> None:
    await store.controllers.attend("a", [], ["i-1"], datetime.now(UTC), anew=True, forget_s=_FORGET_S)
    await store.controllers.attend("b", [], [], datetime.now(UTC), anew=True, forget_s=_FORGET_S)
    await store.controllers.leave("b")
    await asyncio.sleep(0.2)
    left = await store.controllers.attend("c", [], [], datetime.now(UTC), anew=True, forget_s=0.1)
    assert (left.others, left.heard_ages_s) == ((), {})
