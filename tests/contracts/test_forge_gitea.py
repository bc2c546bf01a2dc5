"""Gitea and Forgejo keep the laws of forges and of reviews: the newest of each, and a Gitea that can do less."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from provisioner.domain.errors import ForgeRefused, ForgeUnreachable, RunnerBusy
from provisioner.domain.forge import CiJobState, Forge, ForgeKind, Reviews, Site
from provisioner.forges.gitea.forge import GiteaForge
from tests.fakes.gitea.server import GiteaServer
from tests.fakes.gitea.world import REPOSITORY, GiteaWorld

from .forge_laws import ForgeLaws, ForgeWorld, How, busy, order, shown
from .reviews_laws import ReviewsLaws, ReviewsWorld


@pytest.fixture
def version() -> str:
    return "1.27.3"


@pytest.fixture
def server(version: str) -> Iterator[GiteaServer]:
    made = GiteaServer(version=version)
    with made:
        yield made


@pytest.fixture
def world(server: GiteaServer) -> GiteaWorld:
    return GiteaWorld(server)


@pytest.fixture
def site(world: GiteaWorld) -> Site:
    return Site(ForgeKind("gitea"), world.server.url, REPOSITORY)


@pytest.fixture
async def forge(world: GiteaWorld) -> AsyncIterator[GiteaForge]:
    made = world.forge()
    yield made
    await made.close()


class _OnePage(ReviewsLaws):
    async def test_w1_a_page_that_fails_is_never_a_short_list(
        self, forge: Reviews, site: Site, world: ReviewsWorld
    ) -> None:
        """There is only one."""
        world.say(world.targets[0], ["a", "b"])
        world.trouble("comments", How.BEFORE)
        with pytest.raises(ForgeUnreachable):
            await forge.comments(site, world.targets[0])


class TestGitea(ForgeLaws, _OnePage):
    pass


class TestGiteaWhoseRerunsAreTheSameJob(ForgeLaws):
    @pytest.fixture
    def version(self) -> str:
        return "1.26.4"


class TestForgejo(ForgeLaws, _OnePage):
    """What it does not tell is not asked of it: which runner has a job, and its labels before its program came."""

    @pytest.fixture
    def version(self) -> str:
        return "17.0.1+gitea-1.22.0"

    async def test_f1_a_runner_that_has_a_job_is_never_replaced(
        self, forge: Forge, site: Site, world: ForgeWorld
    ) -> None:
        given, job_id = await busy(forge, site, world, "runner-i-f1busy")
        with pytest.raises(RunnerBusy):
            await forge.register(site, order(given.name))
        assert world.records() == [given.name]
        job = await forge.job(site, site.path, job_id)
        assert job is not None
        assert job.state is CiJobState.RUNNING

    @pytest.mark.parametrize("call", ["runners"])
    async def test_f3_a_page_that_fails_is_never_a_short_list(
        self, forge: Forge, site: Site, world: ForgeWorld, call: str
    ) -> None:
        """Jobs come all at once."""
        await super().test_f3_a_page_that_fails_is_never_a_short_list(forge, site, world, call)

    async def test_f7_a_runner_has_the_labels_that_were_asked_for_and_no_others(
        self, forge: Forge, site: Site, world: ForgeWorld
    ) -> None:
        given = await forge.register(site, order("runner-i-f7", "gpu-h100", "only-me"))
        assert sorted((await shown(forge, site, world))["runner-i-f7"].labels) == ["gpu-h100", "only-me"]
        world.start(given)
        assert sorted(world.labels_of("runner-i-f7")) == ["gpu-h100", "only-me"]


@pytest.mark.parametrize("version", ["1.25.0", "15.0.2+gitea-1.22.0"])
async def test_what_an_older_one_cannot_do_is_refused_in_a_line(
    forge: GiteaForge, site: Site, world: GiteaWorld
) -> None:
    given = await forge.register(site, order("runner-i-old"))
    world.start(given)
    job_id = world.queue("gpu-t4", "run-4711")
    assert world.give(job_id) == given.name
    job = await forge.job(site, site.path, job_id)
    world.finish(job_id)
    assert job is not None
    with pytest.raises(ForgeRefused, match="cannot be asked to run a job again"):
        await forge.rerun(site, job)
    again = await forge.register(site, order("runner-i-old"))
    await forge.remove(site, again.forge_id, again.name)
    assert world.records() == []
