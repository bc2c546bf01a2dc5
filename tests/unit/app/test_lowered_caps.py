"""A policy of CI runs that was changed after it had granted a job: what the settings say now holds."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from provisioner.app.ci import policy_of
from provisioner.app.compose import Controller, composed
from provisioner.app.home import Home
from provisioner.domain.budget import Budget, Period
from provisioner.domain.ci import speaks_of
from provisioner.domain.job import CiOrigin, Job, JobPhase, JobSpec, Need
from tests.fakes.simcloud import Faults, SimCloud

SETTINGS = """\
public_url: https://r.example
ci:
  - forge: https://github.com
    repositories: [acme/*]
    refs: [refs/heads/main]
    max_usd_per_hour: 50
    max_instances: 1
    budget: {usd: 90, per: day}
"""
GRANTED = CiOrigin("https://github.com/acme/vision", "refs/heads/main", "run-1", "ci.", 9, Decimal(99))


async def _waits(c: Controller, job_id: str) -> str:
    while not (said := str((await c.store.jobs.get(job_id)).reason)):  # noqa: ASYNC110  (by the system's clock)
        await asyncio.sleep(0.02)
    return said


async def test_a_machine_is_planned_under_the_caps_of_now(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.make()
    (tmp_path / "settings.yaml").write_text(SETTINGS)
    async with composed(home, {}, served=True) as c:
        c.clouds.providers["sim"] = SimCloud(c.clock, random.Random(3), faults=Faults.none())
        origin = replace(GRANTED, policy=speaks_of(policy_of(c.settings.ci[0], c.settings.public_url)))
        spec = JobSpec(run=("true",), need=Need(providers=("sim",)), origin=origin)
        for job_id in ("j-1", "j-2"):
            await c.store.jobs.submit(Job(job_id, "ci.a", spec, JobPhase.QUEUED, c.clock.now()))
        loop = asyncio.create_task(c.engine.run())
        assert await _waits(c, "j-2") == "budget: 1 machines of CI runs (ci.*) are live and max_instances is 1"
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


async def test_a_budget_that_was_added_holds_and_a_policy_that_is_gone_leaves_what_it_granted(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.make()
    (tmp_path / "settings.yaml").write_text(SETTINGS)
    async with composed(home, {}, served=True) as c:
        assert c.ci is not None
        policy = policy_of(c.settings.ci[0], c.settings.public_url)
        before = replace(policy, max_instances=9, budget=None, key="before")
        origin = replace(GRANTED, policy=speaks_of(before))
        now = replace(origin, max_instances=1, max_usd_per_hour=Decimal(50), budget=Budget(Decimal(90), Period.DAY))
        assert c.ci.as_now(origin) == now
        for other in (replace(policy, refs=()), replace(policy, owner="team"), replace(policy, claims={"a": "b"})):
            assert c.ci.as_now(gone := replace(origin, policy=speaks_of(other))) == gone
        assert c.ci.as_now(GRANTED) == GRANTED  # from before policies were written down
