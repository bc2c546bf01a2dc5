"""What a budget leaves no room for waits for its next period; many that wait are told seldom, and asked for once."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

import pytest
from sqlalchemy import event, insert, update

from provisioner.domain.budget import Budget, Period
from provisioner.domain.job import CiOrigin, Job, JobPhase, JobSpec
from provisioner.store.schema import spending
from tests.fakes.an_engine import an_engine
from tests.fakes.simcloud import Faults, SimCloud
from tests.fakes.simstore import SimStore
from tests.fakes.virtual import run_virtually

from .abilities import Scene

ORIGIN = CiOrigin(
    "https://github.com/acme/vision", "", "run-1", "ci.", 99, Decimal(99), Budget(Decimal(30), Period.DAY)
)
JOBS = 12


@dataclass
class Seen:
    planned_at: list[datetime] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    looks: int = 0  # at what was spent


class _World:
    def __init__(self) -> None:
        self.store = SimStore()
        self.scene = Scene(self.store)
        self.seen = Seen()

    async def spend(self, usd: int) -> None:
        """That day, by machines that are gone."""
        statement = update(spending).values(nano_usd=usd * 10**9)
        await self.scene.port.database.run(lambda c: c.execute(statement) and None)

    async def run(self) -> Seen:
        clock, port = self.scene.clock, self.scene.port
        await clock.sleep(15 * 3600 - 135)  # until shortly before midnight
        first = insert(spending).values(period="2026-01-05", owner="ci.a", nano_usd=28 * 10**9)
        await port.database.run(lambda c: c.execute(first) and None)
        spec = JobSpec(run=("true",), origin=ORIGIN, max_lifetime_s=36000.0)
        for n in range(JOBS):
            await port.jobs.submit(Job(f"j-{n:02}", f"ci.{n}", spec, JobPhase.QUEUED, clock.now()))
        event.listen(port.database.engine, "before_cursor_execute", self._look)
        loop = asyncio.create_task(
            an_engine(port, clock, {"sim": SimCloud(clock, random.Random(3), faults=Faults.none())}).run()
        )
        for usd in range(31, 41):
            await clock.sleep(6)
            await self.spend(usd)
        await clock.sleep(60)
        looks = self.seen.looks
        await clock.sleep(30)
        loop.cancel()
        self.seen.looks = looks
        self.seen.planned_at = [one.created_at for one in await port.instances.find()]
        events = await port.records.events(job_id="j-05")
        self.seen.told = [one.message for one in events if one.what == "job.waits"]
        return self.seen

    def _look(self, *words: object) -> None:
        self.seen.looks += "FROM spending" in str(words[2])


@pytest.fixture(scope="module")
def seen() -> Seen:
    return run_virtually(_World().run())


def test_it_is_tried_again_when_the_next_period_begins(seen: Seen) -> None:
    assert len(seen.planned_at) == 7  # of $4.20 each
    assert {(at.day, at.hour, at.minute) for at in seen.planned_at} == {(6, 0, 0)}


def test_who_waits_is_told_of_what_was_spent_once_a_minute_at_most(seen: Seen) -> None:
    first, then, *_ = seen.told
    end = "and the next day begins on 2026-01-06 at 00:00 UTC"
    more = f"reserved of CI runs (ci.*); $4.20 more would pass the budget of $30.00 a day, {end}"
    assert first == f"budget: $28.00 is spent and $0.00 {more}"
    assert then == f"budget: $40.00 is spent and $0.00 {more}"


def test_a_pass_asks_once_for_all_that_wait(seen: Seen) -> None:
    assert 0 < seen.looks < 60  # a pass every five seconds, at two prices each
