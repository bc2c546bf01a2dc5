"""Runners' records, beside what the simulation shows: who is made one, and whose are known."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import datetime
from typing import Any, cast

import pytest

from provisioner.domain.demand import WAITS_FOR
from provisioner.domain.errors import Conflict, ForgeUnauthorized
from provisioner.domain.facts import RunnerTold
from provisioner.domain.forge import CiJob, CiJobState, Forge, Site
from provisioner.domain.job import Attempt, Job, JobPhase, JobSpec, Outcome, Reason, RunnerSpec, Why
from provisioner.domain.policy import Policy
from provisioner.domain.reruns import RerunOutcome
from provisioner.domain.runners import RunnerRow
from provisioner.engine.reruns import Reruns
from provisioner.engine.runners import Runners
from provisioner.engine.verdicts import Trial
from tests.fakes.simforge import SITE, ForgeFaults, SimForge, SimForges, SimJob
from tests.fakes.simstore import SimStore
from tests.fakes.virtual import run_virtually

from .abilities import Scene

SPEC = JobSpec(run=(), kind="ci-runner", runner=RunnerSpec(SITE.url, "github", ("gpu",)))


class Nobody:
    """Stands where neither agents nor passes are of any interest."""

    def __init__(self) -> None:
        self.reports: dict[str, object] = {}
        self.poked: set[str] = set()

    def poke(self) -> None: ...
    def touch(self, instance_id: str) -> None: ...


class Play(Scene):
    """One runner's attempt on a machine that is READY."""

    async def open(self) -> None:
        self.forge = SimForge(self.clock, random.Random(1), ForgeFaults.none())
        self.attempt = await self.assigned("j-1", "i-1")

    async def assigned(self, job_id: str, instance_id: str) -> Attempt:
        instance = await self.instance(instance_id, ready=True, planned_for=job_id)
        job = await self.port.jobs.submit(Job(job_id, "ada", SPEC, JobPhase.QUEUED, self.clock.now()))
        return cast("Attempt", await self.port.jobs.assign(job, instance, self.clock.now()))

    def controller(self, made: type[Reruns] = Reruns) -> Runners:
        forges, nobody, policy = SimForges(self.forge), cast("Any", Nobody()), Policy()
        reruns = made(self.port, forges, nobody.poke, self.clock, policy)
        return Runners(self.port, forges, nobody, nobody, self.clock, policy, reruns)


@pytest.fixture(scope="module")
def store() -> SimStore:
    return SimStore()


def play(store: SimStore, main: Callable[[Play], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        scene = Play(store)
        await scene.open()
        await main(scene)

    run_virtually(whole())


async def _by_its_agent_or_its_forge(scene: Play, name: str, now: datetime) -> None:
    await scene.port.runners.note(name, busy_at=now)


async def _by_a_webhook(scene: Play, name: str, now: datetime) -> None:
    told = CiJob("7", SITE, SITE.path, CiJobState.RUNNING, ("gpu",), now - WAITS_FOR / 2, runner_name=name)
    await scene.port.ci_jobs.note([told], now)


@pytest.mark.parametrize("told", [_by_its_agent_or_its_forge, _by_a_webhook])
def test_a_runner_that_was_given_a_job_is_not_made_again(
    store: SimStore, told: Callable[[Play, str, datetime], Coroutine[Any, Any, None]]
) -> None:
    async def main(scene: Play) -> None:
        runners, job = scene.controller(), await scene.port.jobs.get("j-1")
        made = await runners.register(job, scene.attempt)
        again = await runners.register(job, scene.attempt)  # the answer to the first may have been lost
        assert (made.name, again.name) == ("runner-i-1", "runner-i-1")
        await told(scene, made.name, scene.clock.now())
        scene.forge.records.clear()  # it was used, and is gone by itself
        with pytest.raises(Conflict, match="runner-i-1 has had its job"):
            await runners.register(job, scene.attempt)
        assert scene.forge.records == {}

    play(store, main)


def test_a_job_that_was_cut_short_is_run_again_when_lost_rights_are_back(store: SimStore) -> None:
    """An embedded controller keeps what it was handed in memory, and has been restarted."""

    class Rights(SimForges):
        there = False

        def of(self, site: Site) -> Forge:
            if not self.there:
                raise ForgeUnauthorized("no rights were handed over since the controller started")
            return super().of(site)

    async def main(scene: Play) -> None:
        rights, clock = Rights(scene.forge), scene.clock
        row = await scene.port.runners.expect(scene.attempt, SITE, "runner-i-1", clock.now())
        scene.forge.queue(SimJob("7", ("gpu",), 5.0, CiJobState.DONE, row.name, lost=True, run="3"))
        await scene.port.reruns.given(row, SITE.path, "3", "train")
        await scene.port.reruns.lost(row, clock.now())
        reruns = Reruns(scene.port, rights, lambda: None, clock, Policy())
        for later_s in (0, 600, 600, 1):
            await clock.sleep(later_s)
            if later_s == 1:
                rights.there = True
                reruns.resume(SITE)
            await reruns.turn([])
            await clock.sleep(5)
        assert [one.what for one in await scene.told("ci.rerun", "ci.rerun_waits", "ci.rerun_refused")] == [
            "ci.rerun_waits",
            "ci.rerun",
        ]
        assert [job.number for job in scene.forge.jobs.values()] == [1, 2]

    play(store, main)


def test_what_only_a_webhook_told_of_before_the_machine_was_lost_is_to_be_run_again(store: SimStore) -> None:
    async def main(scene: Play) -> None:
        port, now = scene.port, scene.clock.now()
        row = await port.runners.expect(scene.attempt, SITE, "runner-i-1", now)
        told = CiJob("7", SITE, SITE.path, CiJobState.RUNNING, ("gpu",), now, "3", name="train", runner_name=row.name)
        await port.ci_jobs.note([told], now)
        scene.forge.queue(SimJob("7", ("gpu",), 5.0, CiJobState.DONE, row.name, lost=True, run="3"))
        job, instance = await port.jobs.get("j-1"), await port.instances.get("i-1")
        reruns = Reruns(port, SimForges(scene.forge), lambda: None, scene.clock, Policy())
        await reruns.ended(Trial(job, scene.attempt, instance, 3600.0, runner=row), Reason(Why.LOST), None)
        (wish,) = await port.reruns.pending()
        assert (wish.repository, wish.run_id, wish.ci_name) == (SITE.path, "3", "train")
        await reruns.turn([])
        await scene.clock.sleep(5)
        assert [job.number for job in scene.forge.jobs.values()] == [1, 2]

    play(store, main)


@pytest.mark.parametrize("told_after_s", [60, None])
def test_which_job_it_was_may_be_told_late(store: SimStore, told_after_s: float | None) -> None:
    """By a webhook that was lost at first; the agent was never heard of it."""

    async def main(scene: Play) -> None:
        port, clock = scene.port, scene.clock
        row = replace(await port.runners.expect(scene.attempt, SITE, "runner-i-1", clock.now()), busy_at=clock.now())
        scene.forge.queue(SimJob("7", ("gpu",), 5.0, CiJobState.DONE, row.name, lost=True, run="3"))
        reruns = Reruns(port, SimForges(scene.forge), lambda: None, clock, Policy())
        job, instance = await port.jobs.get("j-1"), await port.instances.get("i-1")
        await reruns.ended(Trial(job, scene.attempt, instance, 3600.0, runner=row), Reason(Why.LOST), None)
        for turn in range(200):
            if turn * 5 == told_after_s:
                told = CiJob("7", SITE, SITE.path, CiJobState.DONE, ("gpu",), clock.now(), "3", runner_name=row.name)
                await port.ci_jobs.note([told], clock.now())
            await reruns.turn([])
            await clock.sleep(5)
        last = [one.what for one in await scene.told("ci.rerun_waits", "ci.rerun", "ci.rerun_refused")]
        assert last == ["ci.rerun_waits", "ci.rerun" if told_after_s else "ci.rerun_refused"]
        assert len(scene.forge.jobs) == (2 if told_after_s else 1)

    play(store, main)


@pytest.mark.parametrize(
    ("lost", "times", "outcome"), [(False, 0, Outcome.SUCCEEDED), (True, Policy().reruns_most, Outcome.FAILED)]
)
def test_a_runner_whose_one_job_does_not_come_again_ends_without_a_machine(
    store: SimStore, lost: bool, times: int, outcome: Outcome
) -> None:
    async def main(scene: Play) -> None:
        port, now = scene.port, scene.clock.now()
        row = await port.runners.expect(scene.attempt, SITE, "runner-i-1", now)
        told = CiJob("7", SITE, SITE.path, CiJobState.DONE, ("gpu",), now, "3", name="train", runner_name=row.name)
        await port.ci_jobs.note([told], now)
        scene.forge.queue(SimJob("7", ("gpu",), 5.0, CiJobState.DONE, row.name, lost=lost, run="3"))
        for number in range(2, 2 + times):
            before = replace(row, name=f"before-{number}", number=number)
            await port.reruns.given(before, SITE.path, "3", "train")
            await port.reruns.lost(before, now)
            await port.reruns.found(before.name, replace(told, attempt=0))
            await port.reruns.done(before.name, RerunOutcome.ASKED, now)
        reruns = Reruns(port, SimForges(scene.forge), lambda: None, scene.clock, Policy())
        job, instance, why = await port.jobs.get("j-1"), await port.instances.get("i-1"), Reason(Why.LOST)
        await reruns.ended(Trial(job, scene.attempt, instance, 3600.0, runner=row), why, None)
        await port.jobs.end(scene.attempt, why, now)
        await reruns.turn([])
        await scene.clock.sleep(5)
        job = await port.jobs.get("j-1")
        assert (job.outcome, await port.reruns.pending()) == (outcome, [])

    play(store, main)


def test_another_controllers_runners_are_known_to_one_that_had_none(store: SimStore) -> None:
    async def main(scene: Play) -> None:
        idle, other = scene.controller(), scene.controller()
        await idle.turn([], {}, {})
        await other.register(await scene.port.jobs.get("j-1"), scene.attempt)
        await scene.clock.sleep(Policy().runners_every_s)
        await idle.turn([], {}, {})
        assert dict(idle.count()) == {"i-1": 1}

    play(store, main)


def test_what_is_registered_while_the_rows_are_looked_at_is_known_by_its_forges_id(store: SimStore) -> None:
    async def main(scene: Play) -> None:
        class Meanwhile(Reruns):
            async def given(self, row: RunnerRow, told: RunnerTold | None) -> None:
                await runners.register(job, scene.attempt)

        runners, job = scene.controller(Meanwhile), await scene.port.jobs.get("j-1")
        instance = await scene.port.instances.get("i-1")
        await runners.program(job, scene.attempt, instance)
        await runners.turn([scene.attempt], {"i-1": instance}, {"j-1": job})
        (row,) = runners.of_attempts().values()
        assert row.forge_id == "1"

    play(store, main)
