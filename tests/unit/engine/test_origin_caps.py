"""The caps of CI runs hold where machines are planned, and stand in nobody else's way."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from decimal import Decimal

import pytest

from provisioner.domain.job import CiOrigin, Job, JobPhase, JobSpec
from tests.fakes.an_engine import an_engine
from tests.fakes.simcloud import Faults, SimCloud
from tests.fakes.simstore import SimStore
from tests.fakes.virtual import run_virtually

from .abilities import Scene

ORIGIN = CiOrigin("https://github.com/acme/vision", "", "run-1", "ci.", 1, Decimal(100))


@dataclass
class Seen:
    planned_for: set[str]
    waits: str


@pytest.fixture(scope="module")
def seen() -> Seen:
    """Two jobs of CI runs whose policy allows one machine, then one of a person; a minute later."""
    store = SimStore()

    async def main() -> Seen:
        scene = Scene(store)
        clock, port = scene.clock, scene.port
        ci, own = JobSpec(run=("true",), origin=ORIGIN), JobSpec(run=("true",))
        for job_id, owner, spec in (("j-1", "ci.a", ci), ("j-2", "ci.b", ci), ("j-3", "zoe", own)):
            await port.jobs.submit(Job(job_id, owner, spec, JobPhase.QUEUED, clock.now()))
        engine = an_engine(port, clock, {"sim": SimCloud(clock, random.Random(3), faults=Faults.none())})
        loop = asyncio.create_task(engine.run())
        await clock.sleep(60)
        loop.cancel()
        planned = {one.planned_for for one in await port.instances.find()}
        return Seen(planned, str((await port.jobs.get("j-2")).reason))

    return run_virtually(main())


def test_no_more_machines_than_the_policy_allows(seen: Seen) -> None:
    assert seen.planned_for == {"j-1", "j-3"}


def test_who_waits_for_them_is_told_so(seen: Seen) -> None:
    assert seen.waits == "budget: 1 machines of CI runs (ci.*) are live and max_instances is 1"
