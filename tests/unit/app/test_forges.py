"""Rights at forges: from the settings, or handed over and in memory alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from provisioner.app.forges import OpenForges
from provisioner.domain.errors import Conflict, ForgeUnauthorized
from provisioner.domain.forge import ForgeCredentials, ForgeKind, Release, Site
from provisioner.forge_settings import ForgeSettings
from provisioner.forges.registry import known
from tests.fakes.gitlab.server import TOKEN as GITLAB_TOKEN
from tests.fakes.gitlab.server import GitLabServer
from tests.fakes.gitlab.world import PROJECT, GitLabWorld
from tests.fakes.hand_clock import HandClock
from tests.fakes.open_forge import FakeForges, OpenForge

VISION = Site(ForgeKind("github"), "https://github.com", "acme/vision")
SPEECH = Site(ForgeKind("github"), "https://github.com", "acme/speech")
SECRET = "ghp_not-to-be-seen"


class Ground:
    """OpenForges over forges that a test plays."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.world = FakeForges()
        self.environment: dict[str, str] = {}
        self.made: list[OpenForges] = []

    def forges(self, *settings: dict[str, Any], handed: bool = False) -> OpenForges:
        models = [ForgeSettings.model_validate(one, context=known()) for one in settings]
        one = OpenForges(models, self.home, self.environment, HandClock(), handed=handed, opener=self.world.open)
        self.made.append(one)
        return one


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    made = Ground(tmp_path)
    yield made
    for one in made.made:
        await one.close()


def token(text: str = SECRET) -> ForgeCredentials:
    return ForgeCredentials(token=text)


def used(forge: object) -> str:
    assert isinstance(forge, OpenForge)
    return forge.credentials.token


async def test_a_file_or_a_variable_opens_a_forge_once_and_when_it_is_needed(ground: Ground) -> None:
    (ground.home / "token").write_text(f"{SECRET}\n")
    ground.environment["HUB"] = "ghe-token"
    forges = ground.forges(
        {"kind": "github", "token_file": "token"},
        {"kind": "github", "url": "https://git.example", "token_env": "HUB"},
    )
    assert ground.world.opened == []
    assert used(forges.of(VISION)) == SECRET
    assert forges.of(VISION) is forges.of(SPEECH)
    assert used(forges.of(Site(ForgeKind("github"), "https://git.example", "a/b"))) == "ghe-token"
    assert len(ground.world.opened) == 2


async def test_an_app_is_opened_with_its_key(ground: Ground) -> None:
    (ground.home / "app.pem").write_text("a private key")
    forges = ground.forges({"kind": "github", "app_id": 12345, "private_key_file": "app.pem"})
    forges.of(VISION)
    assert ground.world.opened[0].credentials == ForgeCredentials(app_id="12345", private_key="a private key")


async def test_a_token_that_is_changed_in_its_file_is_used_from_then_on(ground: Ground) -> None:
    (ground.home / "token").write_text("first")
    forges = ground.forges({"kind": "github", "token_file": "token"})
    before = forges.of(VISION)
    (ground.home / "token").write_text("second")
    assert (used(before), used(forges.of(VISION))) == ("first", "second")


async def test_who_has_no_rights_is_told_where_to_put_them(ground: Ground) -> None:
    forges = ground.forges({"kind": "github", "token_env": "HUB"})
    with pytest.raises(ForgeUnauthorized) as caught:
        forges.of(VISION)
    assert caught.value.line == "this controller has no rights at github.com; set HUB"
    with pytest.raises(ForgeUnauthorized, match=r"no rights at git\.example") as caught:
        forges.of(Site(ForgeKind("gitea"), "https://git.example", "a/b"))
    assert "forges:" in caught.value.hint


async def test_a_file_that_cannot_be_read_is_a_trouble_of_the_forge(ground: Ground) -> None:
    forges = ground.forges({"kind": "github", "token_file": "absent"})
    with pytest.raises(ForgeUnauthorized, match=r"cannot read .*absent"):
        forges.of(VISION)


async def test_what_is_handed_over_opens_its_site_and_says_so(ground: Ground) -> None:
    ground.world.opens = {SECRET: {"acme/vision"}}
    forges, resumed = ground.forges(handed=True), list[Site]()
    forges.resume = resumed.append
    with pytest.raises(ForgeUnauthorized, match="handed over since the controller started") as caught:
        forges.of(VISION)
    assert caught.value.hint.startswith("`runner launch --repo https://github.com/acme/vision`")
    await forges.take(VISION, token())
    assert (used(forges.of(VISION)), resumed) == (SECRET, [VISION])
    assert forges.wanted() == {"https://github.com": {"kind": "github", "opened": True, "variable": ""}}


async def test_a_token_that_does_not_open_the_site_is_not_kept(ground: Ground) -> None:
    forges = ground.forges(handed=True)
    with pytest.raises(Conflict) as caught:
        await forges.take(VISION, token())
    assert (
        caught.value.message == "https://github.com/acme/vision was not opened: GET acme/vision: 403; nothing was kept"
    )
    assert ground.world.opened[0].closed
    with pytest.raises(ForgeUnauthorized):
        forges.of(VISION)


async def test_each_site_keeps_the_token_that_opened_it(ground: Ground) -> None:
    """Tokens are often good for one repository: what is to be removed at the other still can be."""
    ground.world.opens = {"one": {"acme/vision"}, "two": {"acme/speech"}}
    forges = ground.forges(handed=True)
    await forges.take(VISION, token("one"))
    await forges.take(SPEECH, token("two"))
    assert (used(forges.of(VISION)), used(forges.of(SPEECH))) == ("one", "two")


async def test_one_token_for_two_sites_is_one_identity(ground: Ground) -> None:
    """Two would not know of one another's limits."""
    ground.world.opens = {SECRET: {"acme/vision", "acme/speech"}}
    forges = ground.forges(handed=True)
    await forges.take(VISION, token())
    await forges.take(SPEECH, token())
    assert forges.of(VISION) is forges.of(SPEECH)


async def test_what_a_command_hands_over_goes_before_the_settings(ground: Ground) -> None:
    (ground.home / "token").write_text("of the settings")
    ground.world.opens = {SECRET: {"acme/vision"}}
    forges = ground.forges({"kind": "github", "token_file": "token"}, handed=True)
    await forges.take(VISION, token())
    assert (used(forges.of(VISION)), used(forges.of(SPEECH))) == (SECRET, "of the settings")


async def test_credentials_are_in_no_representation(ground: Ground) -> None:
    ground.world.opens = {SECRET: {"acme/vision"}}
    forges = ground.forges(handed=True)
    await forges.take(VISION, token())
    assert SECRET not in repr([forges, vars(forges), forges.wanted(), forges._handed])


async def test_a_forge_is_opened_with_the_program_that_the_settings_pin(ground: Ground) -> None:
    ground.environment["HUB"] = SECRET
    pin = {"runner_version": "2.331.0", "runner_url": "https://mirror.example", "runner_sha256": {"x86_64": "cd" * 32}}
    forges = ground.forges({"kind": "github", "token_env": "HUB", "preinstalled": ["/usr/local/actions"], **pin})
    forges.of(VISION)
    assert ground.world.opened[0].release == Release("2.331.0", "https://mirror.example", {"x86_64": "cd" * 32})
    assert (forges.preinstalled(VISION), forges.preinstalled(Site(ForgeKind("gitea"), "https://x", ""))) == (
        ("/usr/local/actions",),
        (),
    )


async def test_a_real_adapter_is_opened_by_the_registry(tmp_path: Path) -> None:
    """A GitLab over HTTP, asked with the token that was handed over."""
    with GitLabServer() as server:
        GitLabWorld(server)
        site = Site(ForgeKind("gitlab"), server.url, PROJECT)
        forges = OpenForges([], tmp_path, {}, server.clock, handed=True)
        with pytest.raises(Conflict, match="401"):
            await forges.take(site, token("glpat-wrong"))
        await forges.take(site, token(GITLAB_TOKEN))
        assert await forges.of(site).runners(site) == []
        await forges.close()
