"""What only the family of Gitea has: scopes, secrets good for one runner, forks told by runs, releases of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterator

import pytest

from provisioner.domain.errors import ForgeRefused, ForgeUnreachable, RunnerBusy
from provisioner.domain.forge import ForgeCredentials, ForgeKind, Release, RunnerOrder, Site, Target
from provisioner.forges.gitea.forge import GiteaForge
from tests.fakes.forge_http import Answer, Asked
from tests.fakes.gitea.server import REGISTRATION, TOKEN, GiteaServer
from tests.fakes.gitea.world import REPOSITORY, GiteaWorld

ORDER = RunnerOrder("runner-i-1", ("gpu-t4", "run-7"))
GITEA, FORGEJO = "1.27.3", "17.0.1+gitea-1.22.0"
both = pytest.mark.parametrize("version", [GITEA, FORGEJO])


@pytest.fixture
def version() -> str:
    return GITEA


@pytest.fixture
def server(version: str) -> Iterator[GiteaServer]:
    made = GiteaServer(version=version, root="/git")
    with made:
        yield made


@pytest.fixture
def world(server: GiteaServer) -> GiteaWorld:
    return GiteaWorld(server)


@pytest.fixture
async def forge(world: GiteaWorld) -> AsyncIterator[GiteaForge]:
    made = world.forge()
    yield made
    await made.close()


def site_of(world: GiteaWorld, path: str = REPOSITORY) -> Site:
    return Site(ForgeKind("gitea"), world.server.url, path)


@both
async def test_the_secret_is_one_runners_own_and_no_registration_token(forge: GiteaForge, world: GiteaWorld) -> None:
    given = await forge.register(site_of(world), ORDER)
    made = world.named("runner-i-1")
    assert json.loads(given.secret) == {
        "id": made.id,
        "uuid": made.uuid,
        "name": "runner-i-1",
        "token": made.token,
        "address": world.server.url,
        "labels": ["gpu-t4:host", "run-7:host"],
        "ephemeral": True,
    }
    assert made.ephemeral
    assert REGISTRATION not in given.secret
    assert TOKEN not in given.secret


@both
@pytest.mark.parametrize(
    ("path", "scope"),
    [(REPOSITORY, f"/repos/{REPOSITORY}"), ("vision", "/orgs/vision"), ("ada", "/user"), ("", "/admin")],
)
async def test_what_a_path_is_is_asked_once(forge: GiteaForge, world: GiteaWorld, path: str, scope: str) -> None:
    world.state.orgs.add("vision")
    site = site_of(world, path)
    given = await forge.register(site, ORDER)
    assert world.named("runner-i-1").scope == scope
    assert [one.name for one in await forge.runners(site)] == ["runner-i-1"]
    job = world.state.queue(REPOSITORY, ["gpu-t4"])
    assert [(one.id, one.repository) for one in await forge.queued(site)] == [(str(job.id), REPOSITORY)]
    await forge.remove(site, given.forge_id, given.name)
    assert world.records() == []
    assert len(world.server.sent("GET /orgs/[^/]+")) == (path in ("vision", "ada"))


async def test_a_path_that_is_nothing_there_is_refused(forge: GiteaForge, world: GiteaWorld) -> None:
    with pytest.raises(ForgeRefused, match="neither an organisation there nor"):
        await forge.runners(site_of(world, "nobody"))


async def test_a_job_that_comes_just_before_the_removal_is_not_lost(forge: GiteaForge, world: GiteaWorld) -> None:
    given = await forge.register(site_of(world), ORDER)
    world.start(given)
    job = world.queue(*ORDER.labels)
    world.server.before = lambda asked: world.give(job) if asked.one("status") or asked.method == "PATCH" else None
    with pytest.raises(RunnerBusy):
        await forge.remove(site_of(world), given.forge_id, given.name)
    assert not world.named("runner-i-1").disabled
    assert world.server.sent("DELETE .*") == []


@pytest.mark.parametrize(
    ("version", "state"), [(GITEA, "waiting"), ("1.26.4", "waiting"), ("1.25.0", "failure"), (FORGEJO, "failure")]
)
async def test_a_job_between_the_last_look_and_the_deletion_is_lost_where_a_runner_cannot_be_disabled(
    forge: GiteaForge, world: GiteaWorld, state: str
) -> None:
    """What decision 0022 leaves open."""
    given = await forge.register(site_of(world), ORDER)
    world.start(given)
    job = world.queue(*ORDER.labels)
    world.server.before = lambda asked: world.give(job) if asked.method == "DELETE" else None
    await forge.remove(site_of(world), given.forge_id, given.name)
    assert (world.state.jobs[int(job)].status, world.records()) == (state, [])


async def test_a_runner_that_is_not_called_busy_but_has_a_job_is_busy(forge: GiteaForge, world: GiteaWorld) -> None:
    """Gitea calls a runner busy by when it was last heard of a job, which is late."""
    given = await forge.register(site_of(world), ORDER)
    world.start(given)
    assert world.give(world.queue(*ORDER.labels)) == given.name
    world.server.late_to_say_busy = True
    (found,) = await forge.runners(site_of(world))
    assert found.busy
    with pytest.raises(RunnerBusy):
        await forge.remove(site_of(world), given.forge_id, given.name)


@both
async def test_a_pull_request_from_a_fork_is_told_from_one_of_the_repository(
    forge: GiteaForge, world: GiteaWorld
) -> None:
    theirs = world.state.queue(REPOSITORY, ["gpu"], pull="stranger/train")
    ours = world.state.queue(REPOSITORY, ["gpu"], pull=REPOSITORY)
    pushed = world.state.queue(REPOSITORY, ["gpu"])
    for _ in range(2):
        found = {job.id: job.fork for job in await forge.queued(site_of(world))}
        assert found == {str(theirs.id): True, str(ours.id): False, str(pushed.id): False}
    assert len(world.server.sent(r"GET .*/actions/runs/\d+")) == 3


async def test_what_is_unclear_counts_as_a_fork(forge: GiteaForge, world: GiteaWorld) -> None:
    """A pull request that is gone, a fork that was deleted, and pull_request_target, whose ref is our own branch."""
    gone, deleted, target = (world.state.queue(REPOSITORY, ["gpu"], pull="stranger/train") for _ in range(3))
    world.state.pulls = world.state.pulls[1:]
    world.state.pulls[0].head = None
    run = world.state.runs[target.run]
    run.event, run.ref = "pull_request_target", "refs/heads/main"
    found = {job.id: job.fork for job in await forge.queued(site_of(world))}
    assert found == {str(job.id): True for job in (gone, deleted, target)}


async def test_a_listing_that_changes_while_it_is_read_is_read_again(forge: GiteaForge, world: GiteaWorld) -> None:
    jobs = [world.state.queue(REPOSITORY, ["gpu"]) for _ in range(120)]

    def taken(asked: Asked) -> None:
        if asked.one("page") == "2":
            for job in jobs[:20]:
                job.status = "running"

    world.server.before = taken
    assert {str(job.id) for job in jobs[20:]} <= {job.id for job in await forge.queued(site_of(world))}


@pytest.mark.parametrize("labels", [(), ("gpu:docker://image",), ("a,b",), ("gpu ",)])
async def test_labels_that_it_cannot_have_are_refused_before_anything_is_asked(
    forge: GiteaForge, world: GiteaWorld, labels: tuple[str, ...]
) -> None:
    with pytest.raises(ForgeRefused):
        await forge.register(site_of(world), RunnerOrder("runner-i-1", labels))
    assert world.server.asked == []


@pytest.mark.parametrize("version", ["14.0.1+gitea-1.22.0"])
async def test_a_forgejo_that_cannot_make_runners_says_which_can(forge: GiteaForge, world: GiteaWorld) -> None:
    with pytest.raises(ForgeRefused) as caught:
        await forge.register(site_of(world), ORDER)
    assert caught.value.hint == "15 and newer have it"


async def test_something_else_at_that_address_is_no_forge(world: GiteaWorld) -> None:
    world.server.version = "Apache"
    forge = world.forge()
    with pytest.raises(ForgeUnreachable, match="no Gitea or Forgejo"):
        await forge.runners(site_of(world))
    await forge.close()


async def test_commits_have_no_comments(forge: GiteaForge, world: GiteaWorld) -> None:
    with pytest.raises(ForgeRefused, match="no comments on 'commit'"):
        await forge.add(site_of(world), Target("commit", "c" * 40), "text")


@pytest.mark.parametrize(
    ("version", "name", "path"),
    [
        (GITEA, "act_runner", "/9.8.7/act_runner-9.8.7-linux-arm64"),
        (FORGEJO, "forgejo-runner", "/v9.8.7/forgejo-runner-9.8.7-linux-arm64"),
    ],
)
async def test_the_program_is_the_releases_with_the_sha256_beside_it(world: GiteaWorld, name: str, path: str) -> None:
    digest = hashlib.sha256(b"program").hexdigest()
    listed = Answer(f"{digest}  {path.rpartition('/')[2]}\n".encode())
    moved = Answer(b"", 302, {"Location": "/git/elsewhere"})
    world.server.files |= {f"{path}.sha256": moved, "/elsewhere": listed}
    forge = GiteaForge(world.server.url, ForgeCredentials(token=TOKEN), world.clock, Release("9.8.7", world.server.url))
    found = await forge.software(site_of(world), "linux", "aarch64")
    assert (found.name, found.version, found.url, found.sha256) == (name, "9.8.7", world.server.url + path, digest)
    assert "authorization" not in world.server.sent("GET /elsewhere")[0].headers
    await forge.close()
