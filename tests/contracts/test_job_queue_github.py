"""GitHub's scale sets behind the JobQueue port keep its laws; and what is theirs alone.

GitHub publishes no description of this API: here it is held against our own server only."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator

import pytest

from provisioner.domain.errors import ForgeRefused, ForgeUnauthorized, ForgeUnreachable, RunnerBusy
from provisioner.domain.forge import CiJobState, RunnerOrder, Site
from provisioner.domain.job_queue import JobQueue, OpensQueue
from provisioner.forges.github.credentials import App, Token
from provisioner.forges.github.forge import GitHub
from provisioner.forges.github.opening import open_queue
from tests.fakes.github import runner_api
from tests.fakes.github.apps import key_pair
from tests.fakes.github.description import mismatches
from tests.fakes.github.scale_sets import ScaleSet
from tests.fakes.github.server import FakeGitHub, trouble
from tests.fakes.hand_clock import HandClock

from .job_queue_laws import JobQueueLaws, known, silent, told

NAME, TOKEN = "gpu-set", "ghp_classic-token-of-ada"


class ScaleSetWorld:
    calls = ("registration", "connect", "set", "session", "message", "confirm", "queued", "renew", "leave")

    def __init__(self, fake: FakeGitHub, clock: HandClock) -> None:
        self.fake, self.clock = fake, clock
        self.site = fake.add_repository("acme/vision")

    @property
    def credentials(self) -> tuple[str, ...]:
        return (TOKEN, key_pair()[0].splitlines()[1], *self.fake.accounts.issued, *self.fake.scale_sets.issued)

    @property
    def set(self) -> ScaleSet:
        (found,) = self.fake.scale_sets.sets
        return found

    def queue(self, **more: str) -> str:
        return str(self.fake.state.add_run("acme/vision", [[NAME]], **more).latest[0].id)

    def runner(self, name: str) -> None:
        """One of the set that has come."""
        record = self.fake.state.register("acme/vision", name, [NAME])
        assert record is not None
        record.set_id, record.session = self.set.id, "s"

    def give(self, job_id: str) -> None:
        self.runner(f"runner-of-{job_id}")
        assert self.fake.state.give(self.fake.state.jobs[int(job_id)]) is not None

    def finish(self, job_id: str) -> None:
        self.fake.state.end(self.fake.state.jobs[int(job_id)], "success")

    def let_rights_end(self) -> None:
        self.fake.scale_sets.forget_tokens()

    def forget_dead_holders(self) -> None:
        self.clock.move(self.fake.scale_sets.session_s)
        for one in self.fake.scale_sets.sets:
            if one.session is not None:
                one.session.polling = 0

    def fail(self, call: str, *, done: bool) -> None:
        if call in ("registration", "connect"):
            self.let_rights_end()
        if call == "renew":
            self.fake.troubles.append(trouble("message", "401"))
        self.fake.troubles.append(trouble(call, "cut" if done else "before"))


class _Opens:
    def __init__(self, forge: GitHub, site: Site, clock: HandClock, group: str = "") -> None:
        self.forge, self.site, self.clock, self.group = forge, site, clock, group

    async def open(self) -> JobQueue:
        return await open_queue(self.forge, self.site, NAME, self.group, self.clock)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def fake(clock: HandClock) -> Iterator[FakeGitHub]:
    running = FakeGitHub(clock)
    running.scale_sets.poll_s = 0.02
    running.start()
    yield running
    running.stop()
    assert mismatches(running.exchanges) == []


@pytest.fixture
def world(fake: FakeGitHub, clock: HandClock) -> ScaleSetWorld:
    return ScaleSetWorld(fake, clock)


@pytest.fixture
async def forge(fake: FakeGitHub, clock: HandClock) -> AsyncIterator[GitHub]:
    made = GitHub(fake.url, Token(TOKEN), clock, timeout_s=2.0)
    yield made
    await made.close()


@pytest.fixture
def opens(forge: GitHub, world: ScaleSetWorld, clock: HandClock) -> OpensQueue:
    return _Opens(forge, world.site, clock)


class TestScaleSets(JobQueueLaws):
    """Opened with a personal token."""


async def test_as_an_app_it_is_the_same(world: ScaleSetWorld, fake: FakeGitHub, clock: HandClock) -> None:
    made = GitHub(fake.url, App(fake.accounts.client_id, key_pair()[0]), clock)
    queue = await _Opens(made, world.site, clock).open()
    job = world.queue()
    assert known(await told(queue)) == {job: CiJobState.QUEUED}
    await queue.close()
    await made.close()


# Sets


async def test_a_set_is_made_once_and_found_after(
    opens: OpensQueue, world: ScaleSetWorld, fake: FakeGitHub, clock: HandClock
) -> None:
    for _ in range(2):
        fresh = GitHub(fake.url, Token(TOKEN), clock)
        queue = await _Opens(fresh, world.site, clock).open()
        await queue.close()
        await fresh.close()
    assert (world.set.name, world.set.scope, world.set.group_id) == (NAME, "acme/vision", 1)
    assert fake.scale_sets.asked.count("make") == 1


async def test_a_set_that_github_removed_is_made_again(opens: OpensQueue, fake: FakeGitHub) -> None:
    await (await opens.open()).close()
    fake.scale_sets.sets.clear()
    await (await opens.open()).close()
    assert len(fake.scale_sets.sets) == 1


async def test_its_group_is_found_by_name_or_said_to_be_missing(
    forge: GitHub, fake: FakeGitHub, clock: HandClock
) -> None:
    fake.add_repository("acme/vision")
    fake.groups["acme"] = {"gpus": 5}
    site = fake.site("acme")
    await (await _Opens(forge, site, clock, "gpus").open()).close()
    assert fake.scale_sets.sets[0].group_id == 5
    with pytest.raises(ForgeRefused, match="has no runner group 'tpus'"):
        await forge.scale_sets.find_or_make(site, "another", "tpus")


async def test_a_registration_token_that_is_not_known_everywhere_yet_is_tried_again(
    opens: OpensQueue, fake: FakeGitHub
) -> None:
    fake.scale_sets.late_admins = 2
    await (await opens.open()).close()
    fake.scale_sets.forget_tokens()
    fake.scale_sets.late_admins = 9
    with pytest.raises(ForgeUnauthorized, match="does not open its Actions service: 403"):
        await opens.open()


# Its runners


async def test_its_runners_alone_are_given_its_jobs(
    forge: GitHub, opens: OpensQueue, world: ScaleSetWorld, fake: FakeGitHub
) -> None:
    await (await opens.open()).close()
    given = await forge.register(world.site, RunnerOrder("runner-i-1", (NAME,), scale_set=True))
    plain = await forge.register(world.site, RunnerOrder("runner-i-2", (NAME,)))
    for one in (plain, given):
        assert _began(fake, one.secret)
    job = world.queue()
    record = fake.state.give(fake.state.jobs[int(job)])
    assert record is not None
    assert (record.name, str(record.id)) == ("runner-i-1", given.forge_id)
    assert {one.name: one.busy for one in await forge.runners(world.site)} == {"runner-i-1": True, "runner-i-2": False}
    with pytest.raises(RunnerBusy):
        await forge.remove(world.site, given.forge_id, given.name)


async def test_a_runner_that_was_made_already_is_made_anew(
    forge: GitHub, world: ScaleSetWorld, fake: FakeGitHub
) -> None:
    fake.troubles.append(trouble("configure", "cut"))
    order = RunnerOrder("runner-i-1", (NAME,), scale_set=True)
    with pytest.raises(ForgeUnreachable):
        await forge.register(world.site, order)
    given = await forge.register(world.site, order)
    assert [str(one.id) for one in fake.state.living("acme/vision")] == [given.forge_id]
    assert _began(fake, given.secret)


async def test_a_runner_of_a_set_that_is_gone_makes_the_set(
    forge: GitHub, opens: OpensQueue, world: ScaleSetWorld, fake: FakeGitHub
) -> None:
    await (await opens.open()).close()
    fake.scale_sets.sets.clear()
    await forge.register(world.site, RunnerOrder("runner-i-1", (NAME,), scale_set=True))
    assert fake.state.living("acme/vision")[0].set_id == world.set.id


def _began(fake: FakeGitHub, secret: str) -> bool:
    files = json.loads(base64.b64decode(secret))
    token = json.loads(base64.b64decode(files[".credentials"]))["Data"]["token"]
    return runner_api.answer(fake, "POST", "/sessions", {}, token, {"version": "2.330.0"}).status == 201


# Messages


async def test_the_room_that_there_is_is_said(opens: OpensQueue, world: ScaleSetWorld, fake: FakeGitHub) -> None:
    queue = await opens.open()
    await queue.next(5)
    await queue.next(7)
    assert fake.scale_sets.rooms == [7]
    await queue.close()


async def test_jobs_of_the_repositorys_own_events_are_no_forks_and_of_others_it_is_asked(
    opens: OpensQueue, world: ScaleSetWorld
) -> None:
    queue = await opens.open()
    asked = ("pull_request", "issue_comment", "merge_group", "an_event_of_next_year")
    for event, fork in (("push", False), ("schedule", False), *((name, None) for name in asked)):
        world.queue(event=event)
        batch = await told(queue)
        assert [job.fork for job in batch.jobs] == [fork]
        await queue.confirm(batch)
    await queue.close()


async def test_a_run_is_read_once_and_its_jobs_moves_are_taken_from_messages(
    opens: OpensQueue, world: ScaleSetWorld, fake: FakeGitHub
) -> None:
    queue = await opens.open()
    await queue.next(5)
    run = fake.state.add_run("acme/vision", [[NAME]] * 3)
    jobs = [str(job.id) for job in run.latest]
    batch = await told(queue)
    assert known(batch).keys() == set(jobs)
    await queue.confirm(batch)
    read = fake.asked()
    for job in jobs:
        world.give(job)
        batch = await told(queue)
        assert [(one.id, one.runner_name) for one in batch.jobs] == [(job, f"runner-of-{job}")]
        await queue.confirm(batch)
    assert fake.asked() == read
    await queue.close()


async def test_a_run_that_was_deleted_holds_nothing_up(
    opens: OpensQueue, world: ScaleSetWorld, fake: FakeGitHub
) -> None:
    queue = await opens.open()
    await queue.next(5)
    gone = fake.state.add_run("acme/vision", [[NAME]])
    del fake.state.runs[gone.id]
    batch = await told(queue)
    assert batch.jobs == ()
    await queue.confirm(batch)
    assert await silent(queue)
    await queue.close()


async def test_offered_jobs_are_acquired_when_they_are_confirmed_and_not_before(
    opens: OpensQueue, world: ScaleSetWorld, fake: FakeGitHub
) -> None:
    fake.scale_sets.acquiring = True
    queue = await opens.open()
    await queue.next(5)
    job = world.queue()
    batch = await told(queue)
    assert job in known(batch)
    assert (world.set.jobs, world.set.offered) == (set(), {int(job)})
    await queue.confirm(batch)
    assert (world.set.jobs, world.set.offered) == ({int(job)}, set())
    again = await told(queue)
    assert job in known(again)
    await queue.close()


async def test_a_doubled_message_tells_the_same(opens: OpensQueue, world: ScaleSetWorld, fake: FakeGitHub) -> None:
    fake.scale_sets.doubled = True
    queue = await opens.open()
    await queue.next(5)
    world.queue()
    first = await told(queue)
    await queue.confirm(first)
    second = await told(queue)
    assert (first.id != second.id, first.jobs) == (True, second.jobs)
    await queue.close()


@pytest.mark.parametrize("said", ["[1]", "{}", "no json", '[{"messageType": "JobAssigned"}]'])
async def test_what_is_not_understood_is_told_as_such_and_holds_nothing_up(
    opens: OpensQueue, world: ScaleSetWorld, said: str
) -> None:
    queue = await opens.open()
    await queue.next(5)
    world.set.spoilt = said
    world.queue()
    batch = await told(queue)
    assert (batch.jobs, batch.unread, batch.waiting) == ((), True, 1)
    await queue.confirm(batch)
    world.set.spoilt = ""
    job = world.queue()
    assert job in known(await told(queue))
    await queue.close()


@pytest.mark.parametrize("call", ["connect", "set", "session", "configure"])
async def test_an_answer_of_another_shape_is_our_error(
    forge: GitHub, opens: OpensQueue, world: ScaleSetWorld, fake: FakeGitHub, call: str
) -> None:
    """It is a preview: only the pool that asks for it may come to harm when it changes."""
    fake.scale_sets.garbled = call
    order = RunnerOrder("runner-i-1", (NAME,), scale_set=True)
    with pytest.raises(ForgeUnreachable, match="is not understood") as refused:
        await (forge.register(world.site, order) if call == "configure" else opens.open())
    assert not any(secret in refused.value.line for secret in world.credentials)
