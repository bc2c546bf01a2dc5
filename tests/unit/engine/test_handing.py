"""Handing over, step by step: online, tagged, asked, acknowledged."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from provisioner.domain.errors import Conflict, Unreachable
from provisioner.domain.facts import Report
from provisioner.domain.forge import ForgeKind, Site
from provisioner.domain.handing import HandedOver, HandOver, hand_over
from provisioner.domain.job import (
    NO_REASON,
    Attempt,
    Instance,
    InstancePhase,
    Job,
    JobPhase,
    JobSpec,
    Outcome,
    Reason,
    RunnerSpec,
    Why,
)
from provisioner.engine import Engine
from provisioner.engine.handing import HandOvers
from tests.fakes.simstore import SimStore
from tests.fakes.virtual import run_virtually

from .abilities import POLICY, Scene

SITE = Site(ForgeKind("github"), "https://github.com", "acme/vision")
SPEC = JobSpec(run=(), kind="ci-runner", runner=RunnerSpec(SITE.url, "github", ("run-1",)))


@pytest.fixture(scope="module")
def store() -> SimStore:
    return SimStore()


class Tagging:
    """A cloud with this ability alone. `fails`: how many of the next calls do."""

    def __init__(self) -> None:
        self.tagged: list[tuple[str, str, str]] = []
        self.fails = 0

    async def hand_over(self, machine_ref: str, name: str, scope: str) -> None:
        if self.fails:
            self.fails -= 1
            raise Unreachable(f"{name} is not there")
        self.tagged.append((machine_ref, name, scope))


class Play(Scene):
    """A runner at work on a machine, and the part of the engine that leaves it there."""

    def begin(self) -> None:
        self.cloud = Tagging()
        self.engine = Engine(
            store=self.port,
            providers={},
            clock=self.clock,
            policy=POLICY,
            rng=None,  # type: ignore[arg-type]
            config_for=None,  # type: ignore[arg-type]
            holder="test",
        )
        observed, desk = self.engine.observed, self.engine.desk
        self.handing = HandOvers(self.port, {"sim": self.cloud}, observed, desk, self.clock, POLICY)

    async def launched(self, spec: JobSpec = SPEC) -> tuple[Instance, Attempt]:
        self.begin()
        one, now = await self.instance(ready=True), self.clock.now()
        job = await self.port.jobs.submit(Job("j-1", "ada", spec, JobPhase.QUEUED, now))
        attempt = await self.port.jobs.started(await self.port.jobs.assign(job, one, now), now)
        return await self.port.instances.get(one.id), attempt

    async def online(self, attempt: Attempt) -> None:
        row = await self.port.runners.expect(attempt, SITE, "runner-i-1", self.clock.now())
        await self.port.runners.note(row.name, online_at=self.clock.now())

    async def ended(self, attempt: Attempt, outcome: Outcome, why: Reason) -> None:
        now = self.clock.now()
        await self.port.jobs.end(attempt, why, now, exit_code=0, results_complete=True, log_complete=True, facts={})
        await self.port.jobs.finish(await self.port.jobs.get(attempt.job_id), outcome, why, now)

    def says(self, instance: Instance, order: HandOver, on_end: str = "poweroff") -> None:
        said = HandedOver(order, "runner-i-1", on_end)
        self.engine.desk.heard(instance.id, Report(self.clock.now(), "b-1", handed_over=said))


def in_play(case: Callable[[Play], Coroutine[Any, Any, None]]) -> Callable[[SimStore], None]:
    def run(store: SimStore) -> None:
        async def main() -> None:
            await case(Play(store))

        run_virtually(main())

    run.__name__, run.__doc__ = case.__name__, case.__doc__
    return run


@in_play
async def test_it_is_tagged_and_asked_once_its_forge_has_seen_it_and_alone_once_its_agent_says_so(play: Play) -> None:
    instance, attempt = await play.launched()
    assert (await play.handing.ask("j-1")).state == "waits"
    assert (play.cloud.tagged, (await play.engine.desk.wanted("i-1")).hand_over) == ([], None)
    await play.online(attempt)
    asked = await play.handing.ask("j-1")
    order = hand_over(attempt, instance, SPEC, POLICY)
    assert (asked.state, asked.machine, asked.runner) == ("asked", "runner-i-1", "runner-i-1")
    assert play.cloud.tagged == [("m-i-1", "runner-i-1", "north")]
    wanted = await play.engine.desk.wanted("i-1")
    assert wanted.hand_over == order
    assert (await play.handing.ask("j-1")).state == "asked"
    assert (await play.engine.desk.wanted("i-1")).version == wanted.version
    play.says(instance, replace(order, idle_s=1.0))
    assert (await play.handing.ask("j-1")).state == "asked"
    assert await play.handing.alone("j-1") is False
    play.says(instance, order)
    for _ in range(2):
        assert (await play.handing.ask("j-1")).state == "alone"
    assert await play.handing.alone("j-1") is True
    assert len(play.cloud.tagged) == 1
    assert [event.instance_id for event in await play.told("instance.handed_over")] == ["i-1"]


@in_play
async def test_a_tag_that_cannot_be_put_asks_nobody_and_is_tried_again(play: Play) -> None:
    _, attempt = await play.launched()
    await play.online(attempt)
    play.cloud.fails = 1
    with pytest.raises(Unreachable):
        await play.handing.ask("j-1")
    assert (await play.engine.desk.wanted("i-1")).hand_over is None
    assert (await play.handing.ask("j-1")).state == "asked"


@in_play
async def test_a_machine_that_is_leaving_is_not_asked(play: Play) -> None:
    instance, attempt = await play.launched()
    await play.online(attempt)
    await play.handing.ask("j-1")
    await play.port.instances.advance(instance, InstancePhase.DRAINING, NO_REASON, play.clock.now())
    play.engine.desk.touch("i-1")
    assert (await play.engine.desk.wanted("i-1")).hand_over is None
    assert (await play.handing.ask("j-1")).state == "waits"


@in_play
async def test_a_runner_that_has_served_its_job_needs_nobody(play: Play) -> None:
    _, attempt = await play.launched()
    await play.ended(attempt, Outcome.SUCCEEDED, NO_REASON)
    assert (await play.handing.ask("j-1")).state == "over"


@in_play
async def test_a_runner_that_was_lost_before_is_not_taken_for_one_that_was_handed_over(play: Play) -> None:
    _, attempt = await play.launched()
    await play.ended(attempt, Outcome.EXPIRED, Reason(Why.IDLE, "no job came within 6 s"))
    with pytest.raises(Conflict, match="j-1 expired before it was handed over: idle: no job came within 6 s"):
        await play.handing.ask("j-1")


@in_play
async def test_what_cannot_be_left_alone_is_refused(play: Play) -> None:
    await play.launched(replace(SPEC, outputs=("a",)))
    with pytest.raises(Conflict, match="outputs cannot: nobody would be there for it"):
        await play.handing.ask("j-1")


@in_play
async def test_a_provider_that_cannot_tag_cannot_hand_over(play: Play) -> None:
    _, attempt = await play.launched()
    await play.online(attempt)
    engine = play.engine
    handing = HandOvers(play.port, {}, engine.observed, engine.desk, play.clock, POLICY)
    with pytest.raises(Conflict, match="machines of sim cannot be handed over"):
        await handing.ask("j-1")
