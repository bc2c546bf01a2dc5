"""GitLab keeps the laws of forges and of reviews: on a project, below a relative root, and as older versions answer.
In all of it, nobody is asked who has asked for patience."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from provisioner.domain.errors import ForgeThrottled
from provisioner.domain.forge import ForgeKind, Site
from provisioner.forges.gitlab.forge import GitLab
from tests.fakes.forge_http import Asked
from tests.fakes.gitlab.server import TOKEN, GitLabServer
from tests.fakes.gitlab.world import PROJECT, GitLabWorld

from .forge_laws import AllowanceLaws, ForgeLaws, order
from .reviews_laws import ReviewsLaws


def within_limits(server: GitLabServer) -> Iterator[GitLabServer]:
    with server:
        yield server
    assert (server.ignored, server.limits.ignored) == (0, 0)


@pytest.fixture
def server() -> Iterator[GitLabServer]:
    yield from within_limits(GitLabServer())


@pytest.fixture
def world(server: GitLabServer) -> GitLabWorld:
    return GitLabWorld(server)


@pytest.fixture
def site(world: GitLabWorld) -> Site:
    return Site(ForgeKind("gitlab"), world.server.url, PROJECT)


@pytest.fixture
async def forge(world: GitLabWorld) -> AsyncIterator[GitLab]:
    made = world.forge()
    yield made
    await made.close()


class TestGitLab(ForgeLaws, AllowanceLaws, ReviewsLaws):
    pass


class TestOlderGitLabBelowARoot(ForgeLaws):
    """Which does not say in a runner's record what it is doing."""

    @pytest.fixture
    def server(self) -> Iterator[GitLabServer]:
        yield from within_limits(GitLabServer(root="/gitlab", old=True))


async def test_no_more_notes_are_written_than_a_minute_allows(world: GitLabWorld, forge: GitLab, site: Site) -> None:
    target, limits = world.targets[0], world.server.limits
    for number in range(59):
        await forge.add(site, target, f"note {number}")
    with pytest.raises(ForgeThrottled) as caught:
        await forge.add(site, target, "one more")
    await world.clock.sleep(caught.value.retry_after_s)
    await forge.add(site, target, "the next")
    assert limits.refused == 0


@pytest.mark.system
async def test_a_group_of_many_projects_is_asked_within_what_a_minute_allows(world: GitLabWorld, forge: GitLab) -> None:
    """More of them than their jobs may be listed in a minute."""
    limits = world.server.limits
    for number in range(620):
        world.state.project(f"team/bulk/p{number}")
    last = world.state.queue("team/bulk/p619", ["gpu"])
    site = Site(ForgeKind("gitlab"), world.server.url, "team")
    assert [job.id for job in await forge.queued(site)] == [str(last.id)]
    assert limits.refused == 0
    assert 300 < limits.most["GET /projects/[^/]+/jobs"] <= 600


async def test_what_everything_may_ask_is_never_overdrawn_and_removals_go_on(
    world: GitLabWorld, forge: GitLab, site: Site
) -> None:
    given = [await forge.register(site, order(f"runner-i-{number}")) for number in range(2)]
    world.server.limits.everything = 80
    told: list[ForgeThrottled] = []
    for _ in range(80):
        try:
            await forge.queued(site)
        except ForgeThrottled as error:
            told.append(error)
    assert told
    assert 0 < told[0].retry_after_s <= 60
    for one in given:
        await forge.remove(site, one.forge_id, one.name)
    assert (world.records(), world.server.limits.refused) == ([], 0)


async def test_what_others_have_spent_of_an_endpoint_is_waited_for(
    world: GitLabWorld, forge: GitLab, site: Site
) -> None:
    """It says so only when it refuses, and not for how long."""
    await forge.queued(site)
    server = world.server
    for _ in range(600):
        server.answer(Asked("GET", f"/projects/{world.project.id}/jobs", {}, {"private-token": TOKEN}, {}))
    with pytest.raises(ForgeThrottled) as caught:
        await forge.queued(site)
    before, refused = world.asked(), server.limits.refused
    with pytest.raises(ForgeThrottled):
        await forge.queued(site)
    assert world.asked() == before
    assert caught.value.retry_after_s == 60.0
    await world.clock.sleep(60.0)
    await forge.queued(site)
    assert server.limits.refused == refused
    server.limits.ignored = 0  # those others did not heed it
