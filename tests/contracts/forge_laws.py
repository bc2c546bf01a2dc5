"""The laws of `domain.forge.Forge`, one test each or more. An adapter inherits them with three fixtures.

`forge` is the adapter over a forge with no runner and no job; `site` a repository there; `world` the forge's own side:
what it has, what it is made to do next, and its clock, which is the adapter's too.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import replace
from enum import StrEnum
from typing import Any, Protocol

import pytest

from provisioner.domain.errors import (
    ForgeError,
    ForgeThrottled,
    ForgeUnauthorized,
    ForgeUnreachable,
    RunnerBusy,
    StillRunning,
)
from provisioner.domain.forge import CiJobState, Forge, Given, Registration, Runner, RunnerOrder, Site
from tests.fakes.hand_clock import HandClock

LABELS = ("gpu-t4", "run-4711")


class How(StrEnum):
    """What becomes of a call that is in trouble."""

    BEFORE = "502, nothing done"
    AFTER = "502, and it was done"
    CUT = "done, and the line broke"
    SILENT = "done, and never answered"
    DENIED = "401, nothing done"


class ForgeWorld(Protocol):
    """The forge's own side. Calls are named after the port's methods: register, runners, remove, queued, job, rerun."""

    clock: HandClock
    credentials: tuple[str, ...]

    def records(self) -> list[str]:
        """The names of all runner records of the site, shown or not."""
        ...

    def labels_of(self, name: str) -> list[str]: ...
    def seed(self, names: list[str]) -> None:
        """Runners of these names, offline."""
        ...

    def start(self, given: Registration) -> None:
        """A runner's program begins with what it was given, and waits for a job. Raises: ValueError, not accepted."""
        ...

    def queue(self, *labels: str) -> str:
        """A job of the site with these labels waits: its id."""
        ...

    def queue_hosted(self) -> str:
        """A job that waits for one of the forge's own machines."""
        ...

    def give(self, job_id: str) -> str:
        """The forge gives a waiting job to a fitting runner that waits: its name, or "" when there is none."""
        ...

    def finish(self, job_id: str) -> None:
        """It ends, failed."""
        ...

    def trouble(self, call: str, how: How, *, skip: int = 0, times: int = 1) -> None:
        """What becomes of the next `times` requests that do this call's work, after the first `skip` of them. Those
        are the ones that the call is about: not what an adapter asks to log in or to find its way."""
        ...

    def throttle(self, seconds: float) -> None:
        """From now on everything is refused for so long."""
        ...

    def spend(self, left: float) -> None:
        """Of what may be asked in this hour so much is left, as a share, and the next answer says so."""
        ...

    def asked(self) -> int:
        """Requests that have arrived."""
        ...


def order(name: str, *labels: str) -> RunnerOrder:
    return RunnerOrder(name, labels or LABELS)


async def shown(forge: Forge, site: Site, world: ForgeWorld) -> dict[str, Runner]:
    """What is listed once everything shows."""
    await world.clock.sleep(forge.visibility_s)
    return {runner.name: runner for runner in await forge.runners(site)}


async def waiting(forge: Forge, site: Site, world: ForgeWorld) -> list[str]:
    await world.clock.sleep(forge.visibility_s)
    return sorted(job.id for job in await forge.queued(site))


async def busy(forge: Forge, site: Site, world: ForgeWorld, name: str) -> tuple[Registration, str]:
    """A runner that has a job, and the job's id."""
    given = await forge.register(site, order(name))
    world.start(given)
    job_id = world.queue(*LABELS)
    assert world.give(job_id) == name
    return given, job_id


async def failed(forge: Forge, site: Site, world: ForgeWorld, name: str) -> str:
    """A job that ran and failed."""
    _, job_id = await busy(forge, site, world, name)
    world.finish(job_id)
    return job_id


async def calls(forge: Forge, site: Site, world: ForgeWorld) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Every call of the port, so made that the forge has something to do for it."""
    job_id = await failed(forge, site, world, "runner-i-calls")
    job = await forge.job(site, site.path, job_id)
    assert job is not None
    there = await forge.register(site, order("runner-i-there"))
    return {
        "register": lambda: forge.register(site, order("runner-i-new")),
        "runners": lambda: forge.runners(site),
        "remove": lambda: forge.remove(site, there.forge_id, there.name),
        "queued": lambda: forge.queued(site),
        "job": lambda: forge.job(site, site.path, job_id),
        "taken": lambda: forge.taken(site, Given(site.path, job.run_id, "runner-i-calls")),
        "rerun": lambda: forge.rerun(site, job),
    }


def told(error: BaseException) -> str:
    """All that a person could come to read of an error."""
    return "".join([*traceback.format_exception(error), repr(error), str(error)])


class ForgeLaws:
    async def test_f1_registered_twice_under_one_name_is_one_record_and_the_latest_answer_works(
        self, forge: Forge, site: Site, world: ForgeWorld
    ) -> None:
        await forge.register(site, order("runner-i-f1"))
        again = await forge.register(site, order("runner-i-f1"))
        assert world.records() == ["runner-i-f1"]
        world.start(again)
        assert (await shown(forge, site, world))["runner-i-f1"].online

    async def test_f1_registered_at_the_same_time_is_one_record(
        self, forge: Forge, site: Site, world: ForgeWorld
    ) -> None:
        given = await asyncio.gather(*(forge.register(site, order("runner-i-f1at")) for _ in range(4)))
        assert world.records() == ["runner-i-f1at"]
        assert [one for one in given if _accepted(world, one)]

    @pytest.mark.parametrize("how", [How.BEFORE, How.AFTER, How.CUT])
    async def test_f1_an_answer_that_was_lost_is_made_good_by_asking_again(
        self, forge: Forge, site: Site, world: ForgeWorld, how: How
    ) -> None:
        world.trouble("register", how)
        with pytest.raises(ForgeUnreachable):
            await forge.register(site, order("runner-i-f1lost"))
        world.start(await forge.register(site, order("runner-i-f1lost")))
        assert world.records() == ["runner-i-f1lost"]

    async def test_f1_a_runner_that_has_a_job_is_never_replaced(
        self, forge: Forge, site: Site, world: ForgeWorld
    ) -> None:
        given, job_id = await busy(forge, site, world, "runner-i-f1busy")
        with pytest.raises(RunnerBusy):
            await forge.register(site, order(given.name))
        assert world.records() == [given.name]
        job = await forge.job(site, site.path, job_id)
        assert job is not None
        assert (job.state, job.runner_name) == (CiJobState.RUNNING, given.name)

    async def test_f2_a_registered_runner_shows_offline_until_its_program_has_come(
        self, forge: Forge, site: Site, world: ForgeWorld
    ) -> None:
        given = await forge.register(site, order("runner-i-f2"))
        found = (await shown(forge, site, world))["runner-i-f2"]
        assert (found.online, found.forge_id) == (False, given.forge_id)
        world.start(given)
        found = (await shown(forge, site, world))["runner-i-f2"]
        assert found.online
        assert not found.busy

    async def test_f3_every_page_of_runners_is_listed_and_only_those_of_ours(
        self, forge: Forge, site: Site, world: ForgeWorld
    ) -> None:
        names = [f"runner-i-{number:03}" for number in range(230)]
        world.seed(["alice-desk", *names, "bob-desk"])
        assert sorted(await shown(forge, site, world)) == names

    async def test_f3_every_page_of_waiting_jobs_is_listed(self, forge: Forge, site: Site, world: ForgeWorld) -> None:
        ids = sorted(world.queue(*LABELS) for _ in range(230))
        assert await waiting(forge, site, world) == ids

    @pytest.mark.parametrize("call", ["runners", "queued"])
    async def test_f3_a_page_that_fails_is_never_a_short_list(
        self, forge: Forge, site: Site, world: ForgeWorld, call: str
    ) -> None:
        world.seed([f"runner-i-{number:03}" for number in range(120)])
        for _ in range(120):
            world.queue(*LABELS)
        await world.clock.sleep(forge.visibility_s)
        world.trouble(call, How.BEFORE, skip=1)
        with pytest.raises(ForgeUnreachable):
            await {"runners": forge.runners, "queued": forge.queued}[call](site)

    async def test_f4_removed_twice_is_success(self, forge: Forge, site: Site, world: ForgeWorld) -> None:
        given = await forge.register(site, order("runner-i-f4"))
        for _ in range(2):
            await forge.remove(site, given.forge_id, given.name)
        assert world.records() == []

    async def test_f4_what_never_was_is_removed_with_success(self, forge: Forge, site: Site, world: ForgeWorld) -> None:
        world.seed(["runner-i-other"])
        await forge.remove(site, "", "runner-i-never")
        assert world.records() == ["runner-i-other"]

    async def test_f4_the_name_is_enough(self, forge: Forge, site: Site, world: ForgeWorld) -> None:
        await forge.register(site, order("runner-i-f4name"))
        await forge.register(site, order("runner-i-f4name-2"))
        await world.clock.sleep(forge.visibility_s)
        await forge.remove(site, "", "runner-i-f4name")
        assert world.records() == ["runner-i-f4name-2"]

    async def test_f4_a_runner_that_has_a_job_stays(self, forge: Forge, site: Site, world: ForgeWorld) -> None:
        given, _ = await busy(forge, site, world, "runner-i-f4busy")
        await world.clock.sleep(forge.visibility_s)
        for forge_id in (given.forge_id, ""):
            with pytest.raises(RunnerBusy):
                await forge.remove(site, forge_id, given.name)
        assert world.records() == [given.name]

    async def test_f4_after_removal_it_is_given_no_job(self, forge: Forge, site: Site, world: ForgeWorld) -> None:
        given = await forge.register(site, order("runner-i-f4none"))
        world.start(given)
        await forge.remove(site, given.forge_id, given.name)
        assert world.give(world.queue(*LABELS)) == ""

    @pytest.mark.parametrize("how", [How.BEFORE, How.AFTER, How.CUT, How.SILENT])
    async def test_f4_an_unclear_answer_is_neither_success_nor_refusal(
        self, forge: Forge, site: Site, world: ForgeWorld, how: How
    ) -> None:
        given = await forge.register(site, order("runner-i-f4lost"))
        world.trouble("remove", how)
        with pytest.raises(ForgeUnreachable):
            await forge.remove(site, given.forge_id, given.name)
        await forge.remove(site, given.forge_id, given.name)
        assert world.records() == []

    async def test_f5_only_what_waits_for_a_runner_of_the_owners_own_is_shown(
        self, forge: Forge, site: Site, world: ForgeWorld
    ) -> None:
        await failed(forge, site, world, "runner-i-f5done")
        await busy(forge, site, world, "runner-i-f5")
        world.queue_hosted()
        ids = [world.queue("gpu-a100"), world.queue(*LABELS)]
        assert await waiting(forge, site, world) == sorted(ids)
        found = {job.id: job for job in await forge.queued(site)}
        job = found[ids[1]]
        assert set(job.labels) >= set(LABELS)
        assert (job.state, job.repository, job.attempt, job.fork) == (CiJobState.QUEUED, site.path, 1, False)
        assert await forge.job(site, site.path, job.id) == job

    async def test_f5_there_is_no_such_job(self, forge: Forge, site: Site, world: ForgeWorld) -> None:
        assert await forge.job(site, site.path, str(int(world.queue(*LABELS)) + 999)) is None

    @pytest.mark.parametrize("call", ["register", "runners", "remove", "queued", "job", "taken", "rerun"])
    async def test_f6_only_our_errors_come_out_and_they_tell_no_credential(
        self, forge: Forge, site: Site, world: ForgeWorld, call: str
    ) -> None:
        kinds: list[type[ForgeError]] = []
        for how in (How.BEFORE, How.CUT, How.DENIED):
            ask = (await calls(forge, site, world))[call]
            world.trouble(call, how)
            with pytest.raises(ForgeError) as caught:
                await ask()
            kinds.append(type(caught.value))
            assert [secret for secret in world.credentials if secret in told(caught.value)] == []
        assert kinds == [ForgeUnreachable, ForgeUnreachable, ForgeUnauthorized]

    async def test_f6_a_registration_does_not_print_its_secret(
        self, forge: Forge, site: Site, world: ForgeWorld
    ) -> None:
        given = await forge.register(site, order("runner-i-f6"))
        assert given.secret
        assert given.secret not in repr(given) + str(given)

    async def test_f7_a_runner_has_the_labels_that_were_asked_for_and_no_others(
        self, forge: Forge, site: Site, world: ForgeWorld
    ) -> None:
        await forge.register(site, order("runner-i-f7", "gpu-h100", "only-me"))
        assert sorted(world.labels_of("runner-i-f7")) == ["gpu-h100", "only-me"]
        assert sorted((await shown(forge, site, world))["runner-i-f7"].labels) == ["gpu-h100", "only-me"]

    @pytest.mark.parametrize("turns", [0, 1, 3, 10, 30])
    async def test_f8_cancelled_it_leaves_at_most_a_record_under_that_name(
        self, forge: Forge, site: Site, world: ForgeWorld, turns: int
    ) -> None:
        asking = asyncio.ensure_future(forge.register(site, order("runner-i-f8")))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        world.start(await forge.register(site, order("runner-i-f8")))
        assert world.records() == ["runner-i-f8"]

    async def test_f9_a_job_that_runs_is_not_run_again(self, forge: Forge, site: Site, world: ForgeWorld) -> None:
        _, job_id = await busy(forge, site, world, "runner-i-f9")
        job = await forge.job(site, site.path, job_id)
        assert job is not None
        with pytest.raises(StillRunning):
            await forge.rerun(site, job)
        assert await waiting(forge, site, world) == []

    async def test_f9_a_job_is_run_again_once(self, forge: Forge, site: Site, world: ForgeWorld) -> None:
        job = await forge.job(site, site.path, await failed(forge, site, world, "runner-i-f9once"))
        assert job is not None
        await forge.rerun(site, job)
        first = await waiting(forge, site, world)
        assert len(first) == 1
        await forge.rerun(site, job)
        assert await waiting(forge, site, world) == first

    async def test_f9_what_was_run_again_and_has_ended_is_left_alone(
        self, forge: Forge, site: Site, world: ForgeWorld
    ) -> None:
        job = await forge.job(site, site.path, await failed(forge, site, world, "runner-i-f9one"))
        assert job is not None
        await forge.rerun(site, job)
        world.start(await forge.register(site, order("runner-i-f9two")))
        (again,) = await waiting(forge, site, world)
        assert world.give(again) == "runner-i-f9two"
        world.finish(again)
        await forge.rerun(site, job)
        assert await waiting(forge, site, world) == []

    async def test_f11_the_job_that_a_runner_was_given_is_found_in_its_run(
        self, forge: Forge, site: Site, world: ForgeWorld
    ) -> None:
        given, job_id = await busy(forge, site, world, "runner-i-f11")
        world.finish(job_id)
        job = await forge.job(site, site.path, job_id)
        assert job is not None
        found = await forge.taken(site, Given(site.path, job.run_id, given.name, given.forge_id, job.name))
        assert getattr(found, "key", None) == job.key

    async def test_f10_once_throttled_nothing_is_sent_before_its_time_is_over(
        self, forge: Forge, site: Site, world: ForgeWorld
    ) -> None:
        asks = await calls(forge, site, world)
        world.throttle(40.0)
        with pytest.raises(ForgeThrottled) as caught:
            await forge.runners(site)
        assert 30.0 <= caught.value.retry_after_s <= 90.0
        before = world.asked()
        for ask in asks.values():
            with pytest.raises(ForgeThrottled):
                await ask()
        assert world.asked() == before
        await world.clock.sleep(caught.value.retry_after_s)
        assert "runner-i-there" in await shown(forge, site, world)


class AllowanceLaws:
    """F10 of a forge that says how much may still be asked."""

    async def test_f10_what_is_left_is_kept_for_removals(self, forge: Forge, site: Site, world: ForgeWorld) -> None:
        given = [await forge.register(site, order(f"runner-i-f10-{n}")) for n in range(2)]
        world.spend(0.15)
        await forge.remove(site, given[0].forge_id, given[0].name)
        before = world.asked()
        for ask in (forge.queued, forge.runners):
            with pytest.raises(ForgeThrottled) as caught:
                await ask(site)
        assert world.asked() == before
        await forge.remove(site, given[1].forge_id, given[1].name)
        assert world.records() == []
        await world.clock.sleep(caught.value.retry_after_s)
        assert await shown(forge, site, world) == {}


def _accepted(world: ForgeWorld, given: Registration) -> bool:
    try:
        world.start(replace(given))
    except ValueError:
        return False
    return True
