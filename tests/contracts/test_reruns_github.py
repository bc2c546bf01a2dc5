"""A CI job that its machine cut short is run again by GitHub: once its run is over, and at most twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from provisioner.domain.facts import AttemptReport, RunnerTold
from provisioner.domain.forge import Forge, RunnerOrder, Site
from provisioner.domain.job import Job, JobPhase, JobSpec, Reason, RunnerSpec, Why
from provisioner.domain.policy import Policy
from provisioner.domain.store import Store
from provisioner.engine.reruns import Reruns
from provisioner.engine.verdicts import Trial
from provisioner.forges.github.forge import GitHub
from provisioner.store.open import open_store
from tests.fakes.github.server import FakeGitHub
from tests.fakes.github.state import Job as CiRow

from .forge_laws import LABELS
from .store_laws import ready
from .test_forge_github import GitHubWorld, clock, fake, forge, site, world

__all__ = ["clock", "fake", "forge", "site", "world"]  # fixtures
_TAKEN = Reason(Why.PREEMPTED)
POLICY = Policy()


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = await open_store("sqlite://", secret_key=b"k" * 32, inline=True)
    yield store
    await store.close()


class One:
    """The forge that every site has."""

    def __init__(self, forge: Forge) -> None:
        self._forge = forge

    def of(self, site: Site) -> Forge:
        return self._forge

    def preinstalled(self, site: Site) -> tuple[str, ...]:
        return ()


class Lost:
    """A runner job whose attempts lose their machine at work, each with the CI job that is there then."""

    def __init__(self, store: Store, forge: GitHub, world: GitHubWorld) -> None:
        self.store, self.forge, self.site, self.world = store, forge, world.site, world
        self.reruns = Reruns(store, One(forge), lambda: None, world.clock, POLICY)
        self._machines = 0

    async def lose(self, ci: CiRow) -> None:
        """Noted as the engine does it, when the machine at work is taken back."""
        self._machines += 1
        instance, now = await ready(self.store, f"i-{self._machines}"), self.world.clock.now()
        spec = JobSpec(run=(), kind="ci-runner", runner=RunnerSpec(self.site.url, "github", LABELS))
        job = await self.store.jobs.submit(Job("j-1", "ann", spec, JobPhase.QUEUED, now))
        attempt = await self.store.jobs.assign(job, instance, now)
        row = await self.store.runners.expect(attempt, self.site, instance.name, now)
        self.world.start(await self.forge.register(self.site, RunnerOrder(row.name, LABELS)))
        assert self.world.give(str(ci.id)) == row.name
        said = {"repository": self.site.path, "run": str(ci.run_id), "job": "train"}
        told = AttemptReport("j-1", attempt.number, "ended", runner=RunnerTold("busy", jobs=1, job=said))
        await self.reruns.ended(Trial(job, attempt, instance, 900.0, (), row), _TAKEN, told)
        await self.store.jobs.end(attempt, _TAKEN, now, outcome=None, counts=False)

    async def round(self) -> list[str]:
        """What the events tell by its end."""
        await self.reruns.turn(await self.store.jobs.waiting())
        await asyncio.gather(*(one for one in asyncio.all_tasks() if one.get_name().startswith("rerun ")))
        return [one.what for one in await self.store.records.events(job_id="j-1") if one.what.startswith("ci.")]

    async def held(self) -> bool:
        await self.round()
        return await self.reruns.free(await self.store.jobs.waiting(), ()) == []


@pytest.fixture
def lost(store: Store, forge: GitHub, world: GitHubWorld) -> Lost:
    return Lost(store, forge, world)


async def test_it_waits_for_the_end_of_its_run_and_its_runner_waits_with_it(lost: Lost, fake: FakeGitHub) -> None:
    run = fake.state.add_run(lost.site.path, [list(LABELS), ["other"]])
    mine, other = run.latest
    await lost.lose(mine)
    assert await lost.round() == ["ci.rerun_waits"]
    fake.state.end(mine, "failure")
    lost.world.clock.move(3600.0)
    assert await lost.held()
    (waiting,) = await lost.store.jobs.waiting()
    assert str(waiting.reason) == "forge: its CI job was cut short, and waits to be run again"
    fake.state.end(other, "success")
    lost.world.clock.move(POLICY.retry_backoff_max_s)
    assert await lost.round() == ["ci.rerun_waits", "ci.rerun"]
    assert (run.attempt, [row.status for row in run.latest]) == (2, ["queued", "completed"])
    assert not await lost.held()


async def test_another_controller_after_a_crash_asks_for_no_second_rerun(
    lost: Lost, store: Store, forge: GitHub, fake: FakeGitHub
) -> None:
    """The first had asked, and was killed before it wrote that down."""
    run = fake.state.add_run(lost.site.path, [list(LABELS)])
    (mine,) = run.latest
    await lost.lose(mine)
    fake.state.end(mine, "failure")
    ci = await forge.job(lost.site, lost.site.path, str(mine.id))
    assert ci is not None
    await forge.rerun(lost.site, ci)
    lost.reruns = Reruns(store, One(forge), lambda: None, lost.world.clock, POLICY)
    assert await lost.round() == ["ci.rerun"]
    assert run.attempt == 2


async def test_one_job_of_a_run_is_run_again_twice_at_most(lost: Lost, fake: FakeGitHub) -> None:
    run = fake.state.add_run(lost.site.path, [list(LABELS)])
    for _ in range(3):
        (mine,) = run.latest
        await lost.lose(mine)
        fake.state.end(mine, "failure")
        lost.world.clock.move(60.0)
        told = await lost.round()
    assert told == ["ci.rerun", "ci.rerun", "ci.rerun_refused"]
    assert run.attempt == 3
    assert [one.outcome for one in await lost.store.reruns.of_job("j-1")] == ["asked", "asked", "too often"]
    assert (await lost.store.jobs.get("j-1")).outcome == "failed"


async def test_a_run_that_does_not_end_is_given_up_after_a_while(lost: Lost, fake: FakeGitHub) -> None:
    run = fake.state.add_run(lost.site.path, [list(LABELS)])
    await lost.lose(run.latest[0])
    assert await lost.round() == ["ci.rerun_waits"]
    lost.world.clock.move(POLICY.rerun_within_s + 1)
    assert await lost.round() == ["ci.rerun_waits", "ci.rerun_refused"]
    assert not await lost.held()


async def test_what_we_may_not_run_again_is_said(lost: Lost, fake: FakeGitHub) -> None:
    run = fake.state.add_run(lost.site.path, [list(LABELS)])
    await lost.lose(run.latest[0])
    fake.state.end(run.latest[0], "failure")
    fake.denied.add("rerun")
    assert await lost.round() == ["ci.rerun_refused"]
    (event,) = [one for one in await lost.store.records.events(job_id="j-1") if one.what == "ci.rerun_refused"]
    assert "Actions: write" in event.message
