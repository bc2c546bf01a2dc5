"""What only a GitLab has: groups and the instance as sites, busy runners that it would delete, forks, its releases."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from provisioner.domain.errors import ForgeRefused, RunnerBusy
from provisioner.domain.forge import Conclusion, ForgeCredentials, ForgeKind, Release, RunnerOrder, Site, Target
from provisioner.forges.gitlab.forge import GitLab
from tests.fakes.forge_http import Answer, Asked
from tests.fakes.gitlab.server import GitLabServer
from tests.fakes.gitlab.state import MergeRequest
from tests.fakes.gitlab.world import PROJECT, GitLabWorld

ORDER = RunnerOrder("runner-i-1", ("gpu-t4", "run-7"))


@pytest.fixture
def server() -> Iterator[GitLabServer]:
    made = GitLabServer()
    with made:
        yield made


@pytest.fixture
def world(server: GitLabServer) -> GitLabWorld:
    return GitLabWorld(server)


@pytest.fixture
async def forge(world: GitLabWorld) -> AsyncIterator[GitLab]:
    made = world.forge()
    yield made
    await made.close()


def site_of(world: GitLabWorld, path: str = PROJECT) -> Site:
    return Site(ForgeKind("gitlab"), world.server.url, path)


async def test_a_runner_takes_tagged_jobs_of_its_project_only(forge: GitLab, world: GitLabWorld) -> None:
    await forge.register(site_of(world), replace(ORDER, longest_job_s=90.0))
    (made,) = world.state.runners.values()
    assert (made.kind, made.owner, made.description) == ("project_type", world.project.id, "runner-i-1")
    assert (made.tags, made.run_untagged, made.locked) == (["gpu-t4", "run-7"], False, True)
    assert made.maximum_timeout == 600


@pytest.mark.parametrize(
    ("path", "kind"), [("team", "group_type"), ("team/vision", "group_type"), ("", "instance_type")]
)
async def test_what_a_path_is_is_asked_once(forge: GitLab, world: GitLabWorld, path: str, kind: str) -> None:
    site = site_of(world, path)
    for name in ("runner-i-1", "runner-i-2"):
        await forge.register(site, replace(ORDER, name=name))
    assert {one.kind for one in world.state.runners.values()} == {kind}
    assert sorted(one.name for one in await forge.runners(site)) == ["runner-i-1", "runner-i-2"]
    assert len(world.server.sent("GET /groups/[^/]+")) == (1 if path else 0)


async def test_a_path_that_is_nothing_there_is_refused(forge: GitLab, world: GitLabWorld) -> None:
    with pytest.raises(ForgeRefused, match="neither a project nor a group"):
        await forge.runners(site_of(world, "nobody/nothing"))


async def test_a_project_lists_no_runners_of_its_groups(forge: GitLab, world: GitLabWorld) -> None:
    await forge.register(site_of(world, "team"), ORDER)
    assert await forge.runners(site_of(world)) == []


async def test_the_jobs_of_a_group_are_those_of_all_its_projects(forge: GitLab, world: GitLabWorld) -> None:
    state = world.state
    for number in range(110):
        state.project(f"team/bulk/p{number}")
    wanted = {str(state.queue(path, ["gpu"]).id): path for path in (PROJECT, "team/tools", "team/bulk/p105")}
    state.queue("elsewhere/train", ["gpu"])
    state.queue("team/shut", ["gpu"])
    state.project("team/shut").builds = False
    assert {job.id: job.repository for job in await forge.queued(site_of(world, "team"))} == wanted
    everywhere = await forge.queued(site_of(world, ""))
    assert {job.repository for job in everywhere} == {*wanted.values(), "elsewhere/train"}


async def test_a_job_that_is_taken_while_pages_are_read_hides_no_other(forge: GitLab, world: GitLabWorld) -> None:
    jobs = [world.state.queue(PROJECT, ["gpu"]) for _ in range(150)]

    def taken(asked: Asked) -> None:
        if asked.path.endswith("/jobs") and asked.one("cursor"):
            for job in jobs[-30:]:
                job.status = "running"

    world.server.before = taken
    assert {str(job.id) for job in jobs[:120]} <= {job.id for job in await forge.queued(site_of(world))}


@pytest.mark.parametrize("old", [False, True])
async def test_a_job_that_comes_just_before_the_removal_is_not_lost(
    forge: GitLab, world: GitLabWorld, old: bool
) -> None:
    """Given between the look and the pause: the runner goes on, and is not left paused."""
    world.server.old = old
    given = await forge.register(site_of(world), ORDER)
    world.start(given)
    job = world.queue(*ORDER.labels)
    world.server.before = lambda asked: world.give(job) if asked.method == "PUT" else None
    with pytest.raises(RunnerBusy):
        await forge.remove(site_of(world), given.forge_id, given.name)
    (left,) = world.state.runners.values()
    assert (left.paused, world.state.jobs[int(job)].status) == (False, "running")
    assert world.server.sent(r"DELETE .*") == []


async def test_a_runner_whose_look_finds_a_job_is_not_even_paused(forge: GitLab, world: GitLabWorld) -> None:
    given = await forge.register(site_of(world), ORDER)
    world.start(given)
    world.give(world.queue(*ORDER.labels))
    with pytest.raises(RunnerBusy):
        await forge.remove(site_of(world), given.forge_id, given.name)
    assert world.server.sent("PUT .*") == []


async def test_a_record_that_is_not_listed_yet_is_replaced_all_the_same(forge: GitLab, world: GitLabWorld) -> None:
    world.server.late_s = 8.0
    await forge.register(site_of(world), ORDER)
    await forge.register(site_of(world), ORDER)
    assert world.records() == ["runner-i-1"]


async def test_an_unclear_answer_is_waited_out_where_records_show_late(forge: GitLab, world: GitLabWorld) -> None:
    world.server.late_s = 8.0
    world.trouble("register", _How("CUT"))
    with pytest.raises(Exception, match="POST"):
        await forge.register(site_of(world), ORDER)
    await forge.register(site_of(world), ORDER)
    assert world.records() == ["runner-i-1"]


class _How:
    def __init__(self, name: str) -> None:
        self.name = name


@pytest.mark.parametrize("labels", [(), ("a,b",), (" gpu",)])
async def test_tags_that_it_cannot_have_are_refused_before_anything_is_asked(
    forge: GitLab, world: GitLabWorld, labels: tuple[str, ...]
) -> None:
    with pytest.raises(ForgeRefused):
        await forge.register(site_of(world), RunnerOrder("runner-i-1", labels))
    assert world.server.asked == []


async def test_a_merge_request_from_a_fork_is_told_from_one_of_the_project(forge: GitLab, world: GitLabWorld) -> None:
    state = world.state
    theirs, ours = state.queue(PROJECT, ["gpu"], fork=True), state.queue(PROJECT, ["gpu"], fork=True)
    state.merge_requests[-1] = MergeRequest(2, world.project.id, world.project.id)
    gone = state.queue(PROJECT, ["gpu"], fork=True)
    state.merge_requests.pop()
    pushed = state.queue(PROJECT, ["gpu"])
    found = {job.id: job.fork for job in await forge.queued(site_of(world))}
    assert found == {str(theirs.id): True, str(ours.id): False, str(gone.id): True, str(pushed.id): False}
    await forge.queued(site_of(world))
    assert len(world.server.sent(r"GET .*/merge_requests/\d+")) == 3


async def test_what_gitlab_does_not_run_again_is_refused_with_a_reason(forge: GitLab, world: GitLabWorld) -> None:
    queued = world.state.queue(PROJECT, ["gpu"])
    queued.status = "skipped"
    job = await forge.job(site_of(world), PROJECT, str(queued.id))
    assert job is not None
    with pytest.raises(ForgeRefused, match="does not run job"):
        await forge.rerun(site_of(world), job)


async def test_the_same_status_twice_is_no_error(forge: GitLab, world: GitLabWorld) -> None:
    for _ in range(2):
        await forge.check(site_of(world), world.sha, "gate", Conclusion.NEUTRAL, "x" * 300, "")
    assert [(one.state, len(one.description)) for one in world.state.statuses] == [("success", 255)]


async def test_notes_that_gitlab_writes_itself_are_no_comments(forge: GitLab, world: GitLabWorld) -> None:
    target = Target("pr", "7")
    world.say(target, ["mine"])
    assert [one.body for one in await forge.comments(site_of(world), target)] == ["mine"]


async def test_the_program_is_that_of_the_release_with_the_sha256_that_its_list_has(world: GitLabWorld) -> None:
    digest = hashlib.sha256(b"gitlab-runner").hexdigest()
    listed = f"{'0' * 64} *binaries/gitlab-runner-linux-amd64-fips\n{digest} *binaries/gitlab-runner-linux-amd64\n"
    world.server.files["/v17.1.0/release.sha256"] = Answer(listed.encode())
    forge = GitLab(
        world.server.url, ForgeCredentials(token="t"), world.clock, Release("17.1.0", world.server.url + "/")
    )
    found = [await forge.software(site_of(world), "linux", "x86_64") for _ in range(2)]
    url = f"{world.server.url}/v17.1.0/binaries/gitlab-runner-linux-amd64"
    assert [(one.name, one.version, one.url, one.sha256) for one in found] == [
        ("gitlab-runner", "17.1.0", url, digest)
    ] * 2
    assert [asked.headers.get("private-token") for asked in world.server.asked] == [None]
    with pytest.raises(ForgeRefused, match="has no sha256 of gitlab-runner-linux-arm64"):
        await forge.software(site_of(world), "linux", "aarch64")
    with pytest.raises(ForgeRefused, match="no runner program for darwin"):
        await forge.software(site_of(world), "darwin", "x86_64")
    await forge.close()
    release = Release("17.1.0", world.server.url, {"x86_64": "cd" * 32})
    pinned = GitLab(world.server.url, ForgeCredentials(token="t"), world.clock, release)
    assert (await pinned.software(site_of(world), "linux", "x86_64")).sha256 == "cd" * 32
    await pinned.close()


async def test_removals_of_many_at_once_are_each_done(forge: GitLab, world: GitLabWorld) -> None:
    names = [f"runner-i-{n}" for n in range(12)]
    given = await asyncio.gather(*(forge.register(site_of(world), replace(ORDER, name=name)) for name in names))
    await asyncio.gather(*(forge.remove(site_of(world), one.forge_id, one.name) for one in given))
    assert world.records() == []
