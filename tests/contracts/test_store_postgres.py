"""The Store's laws on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import text

from provisioner.domain.store import Store
from provisioner.store.open import open_store
from tests.fakes import postgres

from .budget_laws import BudgetLaws
from .ci_job_laws import CiJobLaws
from .origin_laws import OriginLaws
from .rerun_laws import RerunLaws
from .runner_laws import RunnerLaws
from .store_laws import StoreLaws

pytestmark = pytest.mark.skipif(postgres.binaries() is None, reason="PostgreSQL is not installed")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with postgres.server() as running:
        yield running


class TestPostgres(StoreLaws, BudgetLaws, CiJobLaws, OriginLaws, RunnerLaws, RerunLaws):
    @pytest.fixture
    async def store(self, url: str) -> AsyncIterator[Store]:
        store = await open_store(url, secret_key=b"k" * 32)
        yield store
        with store.database.engine.begin() as connection:
            connection.execute(text("drop schema public cascade"))
            connection.execute(text("create schema public"))
        await store.close()
