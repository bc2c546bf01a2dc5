"""GitLab keeps the laws of forges and of reviews: on a project, below a relative root, and as older versions answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from provisioner.domain.forge import ForgeKind, Site
from provisioner.forges.gitlab.forge import GitLab
from tests.fakes.gitlab.server import GitLabServer
from tests.fakes.gitlab.world import PROJECT, GitLabWorld

from .forge_laws import AllowanceLaws, ForgeLaws
from .reviews_laws import ReviewsLaws


@pytest.fixture
def server() -> Iterator[GitLabServer]:
    made = GitLabServer()
    with made:
        yield made


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
        made = GitLabServer(root="/gitlab", old=True)
        with made:
            yield made
