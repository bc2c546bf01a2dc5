"""Runners that a launch waits for, and which do not come in that time: taken back, though nobody is left to say so."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from provisioner.domain.forge import ForgeKind, Site
from provisioner.domain.job import Attempt, AttemptPhase, Job, JobPhase, JobSpec, Need, Outcome, RunnerSpec
from provisioner.engine.awaited import Awaited
from provisioner.engine.observe import Observed
from tests.fakes.simstore import SimStore
from tests.fakes.simulation import POLICY
from tests.fakes.virtual import run_virtually
from tests.unit.engine.test_paused import Play, played

VISION = Site(ForgeKind("github"), "https://github.com", "acme/vision")


def waited(play: Play) -> Awaited:
    return Awaited(play.store, Observed({}, play.clock, POLICY, lambda: None), play.clock, POLICY)


async def launched(play: Play, within_s: float | None, awaited: bool = False) -> Job:
    runner = RunnerSpec(VISION.url, "github", ("run-7",), online_within_s=within_s, awaited=awaited)
    spec = JobSpec(run=(), kind="ci-runner", need=Need(providers=("sim",)), runner=runner)
    job = await play.store.jobs.submit(Job("ci-1", "ada", spec, JobPhase.QUEUED, play.clock.now()))
    play.engine.desk.poke()
    return job


async def ended(play: Play) -> tuple[Outcome | None, float]:
    """How, and how long after it was asked for."""
    job = await play.store.jobs.get("ci-1")
    return job.outcome, (job.ended_at - job.created_at) / timedelta(seconds=1) if job.ended_at else 0.0


def alone(script: Callable[[Play], Coroutine[Any, Any, None]]) -> None:
    """With no engine about."""
    store = SimStore()

    async def main() -> None:
        await script(Play(store))

    run_virtually(main())


def test_what_waits_for_room_does_not_wait_for_nobody() -> None:
    async def script(play: Play) -> None:
        await launched(play, 90.0)
        await play.clock.sleep(89)
        assert await ended(play) == (None, 0.0)
        await play.clock.sleep(12)
        outcome, after_s = await ended(play)
        assert (outcome, 90 <= after_s <= 96) == (Outcome.CANCELLED, True)
        (late,) = [one for one in await play.store.records.events() if one.what == "runner.late"]
        assert (late.job_id, late.message) == ("ci-1", "not online within 90 s")
        assert "launch" not in play.cloud.tried

    played(script)


def test_who_does_not_say_how_long_they_wait_waits_on() -> None:
    async def script(play: Play) -> None:
        job = await launched(play, None)
        await play.clock.sleep(86400)
        assert not await waited(play).turn([job])

    alone(script)


def test_one_that_was_online_once_is_not_given_up() -> None:
    """A successor, or what an interruption took, is another matter."""

    async def script(play: Play) -> None:
        job, awaited = await launched(play, 1230.0), waited(play)
        row = await play.store.runners.expect(
            Attempt(job.id, 1, "i-1", AttemptPhase.RUNNING, play.clock.now()), VISION, "runner-i-1", play.clock.now()
        )
        await play.store.runners.note(row.name, online_at=play.clock.now())
        await play.clock.sleep(3600)
        assert not await awaited.turn([job])
        assert (await play.store.jobs.get(job.id)).cancel_asked_at is None

    alone(script)


def test_one_that_is_tried_again_and_was_never_online_is_given_up_once() -> None:
    """Its machines did not come: the next would be rented for nobody."""

    async def script(play: Play) -> None:
        job, awaited = await launched(play, 1230.0), waited(play)
        attempt = Attempt(job.id, 1, "i-1", AttemptPhase.ENDED, play.clock.now())
        await play.store.runners.expect(attempt, VISION, "runner-i-1", play.clock.now())
        await play.clock.sleep(1230)
        assert await awaited.turn([job])
        asked = await play.store.jobs.get(job.id)
        assert (asked.cancel_asked_at, asked.cancel_now) == (play.clock.now(), False)
        assert not await awaited.turn([asked])

    alone(script)


def test_a_launch_that_says_no_more_that_it_waits_is_given_up() -> None:
    async def script(play: Play) -> None:
        job = await launched(play, None, awaited=True)
        for _ in range(5):
            await play.clock.sleep(POLICY.awaited_s - 10)
            await play.store.runners.note_waits(job.id, play.clock.now())
        assert await ended(play) == (None, 0.0)
        await play.clock.sleep(POLICY.awaited_s + 10)
        assert (await ended(play))[0] is Outcome.CANCELLED
        (late,) = [one for one in await play.store.records.events() if one.what == "runner.late"]
        assert late.message == f"nobody has waited for it for {POLICY.awaited_s:g} s"

    played(script)


@pytest.mark.parametrize("seen", [True, False])
def test_one_that_came_after_its_launch_was_killed_is_given_up_too(seen: bool) -> None:
    """Its launch has to say that it saw it."""

    async def script(play: Play) -> None:
        job, awaited = await launched(play, 1230.0, awaited=True), waited(play)
        attempt = Attempt(job.id, 1, "i-1", AttemptPhase.RUNNING, play.clock.now())
        row = await play.store.runners.expect(attempt, VISION, "runner-i-1", play.clock.now())
        await play.store.runners.note(row.name, online_at=play.clock.now())
        if seen:
            await play.store.runners.note_waits(job.id, None)
        await play.clock.sleep(POLICY.awaited_s - 1)
        assert not await awaited.turn([job])
        await play.clock.sleep(5000)
        assert await awaited.turn([job]) is not seen

    alone(script)


def test_while_there_was_no_controller_nobody_could_say_so() -> None:
    async def script(play: Play) -> None:
        job = await launched(play, None, awaited=True)
        await play.clock.sleep(POLICY.awaited_s * 3)
        awaited = waited(play)
        assert not await awaited.turn([job])
        await play.clock.sleep(POLICY.awaited_s)
        assert await awaited.turn([job])

    alone(script)
