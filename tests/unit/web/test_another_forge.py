"""One more forge is one more folder: what has to know it does, from settings to launching, and nothing was told so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from agent.programs import program_of
from provisioner.app.ci import Door, policy_of
from provisioner.app.forges import OpenForges
from provisioner.app.webhooks import expected
from provisioner.domain.errors import InvalidRequest
from provisioner.domain.forge import ForgeKind, Site, Software
from provisioner.domain.job import JobSpec, RunnerSpec
from provisioner.domain.kinds import Kinds
from provisioner.domain.launching import names_of
from provisioner.forges.registry import declared_in, known
from provisioner.pool_settings import make_pools
from provisioner.settings import Settings, load
from tests.fakes.elsewhere.anvil.program import NAME
from tests.fakes.hand_clock import HandClock
from tests.fakes.registrar import FakeRegistrar
from tests.house.places import TOP

from .served import Http, Served, serve
from .test_hooks import Taker

KINDS = Kinds([*known(), *declared_in(TOP / "tests/fakes/elsewhere", "tests.fakes.elsewhere")])
BELL = Site(ForgeKind("anvil"), "https://anvil.example", "acme/bell")
SETTINGS = {
    "public_url": "https://runner.example",
    "forges": [{"kind": "anvil", "token_file": "token", "webhook_secret_file": "hook"}],
    "ci": [
        {
            "forge": "https://anvil.example",
            "kind": "anvil",
            "repositories": ["acme/*"],
            "max_usd_per_hour": 5,
            "max_instances": 4,
        }
    ],
    "pools": [{"name": "gpu", "sites": ["https://anvil.example/acme"], "labels": ["gpu"], "max": 2, "scale_set": True}],
}
IN_A_JOB = {"ANVIL": "7", "ANVIL_PLACE": "acme/bell", "ANVIL_SHA": "a" * 40, "ANVIL_TOKEN": "anv-secret"}


class Desired(Taker):
    """What takes webhooks, and has no pools."""

    pools = ()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(SETTINGS))
    (tmp_path / "token").write_text("anv-secret\n")
    (tmp_path / "hook").write_text("ding\n")
    return load(tmp_path, {}, KINDS)


@pytest.fixture
async def forges(tmp_path: Path, settings: Settings) -> AsyncIterator[OpenForges]:
    made = OpenForges(settings.forges, tmp_path, {}, HandClock(), kinds=KINDS)
    yield made
    await made.close()


@pytest.fixture
async def web(tmp_path: Path, settings: Settings, forges: OpenForges) -> AsyncIterator[Served]:
    """A controller that has the folder."""
    served = await serve(tmp_path)
    for listener in served.listeners:
        await listener.close()
    hooks = expected(settings.forges, tmp_path, KINDS)
    demand: Any = Desired()
    served.services = replace(served.services, kinds=KINDS, webhooks=hooks, demand=demand, forge_keyring=forges)
    await served.start()
    yield served
    await served.close()


def test_settings_and_pools_take_it(settings: Settings) -> None:
    assert settings.forges[0].url == "https://anvil.example"
    assert settings.ci[0].issuer == "https://anvil.example/issuer"
    (pool,) = make_pools(settings.pools, KINDS)
    assert pool.sites == (Site(ForgeKind("anvil"), "https://anvil.example", "acme"),)


def test_without_the_folder_it_is_refused_with_those_that_there_are(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(InvalidRequest, match=r"forges\.0\.kind: Input should be 'gitea', 'github' or 'gitlab'"):
        load(tmp_path, {}, known())
    with pytest.raises(InvalidRequest, match=r"what kind of forge is anvil\.example\?"):
        make_pools(settings.pools, known())
    assert known().run(IN_A_JOB) is None


async def test_it_is_opened_with_the_settings_rights(forges: OpenForges) -> None:
    opened = forges.of(BELL)
    assert (opened.kind, list(await opened.runners(BELL))) == ("anvil", [])


async def test_its_webhooks_have_an_address(web: Served) -> None:
    headers = {"X-Anvil-Secret": "ding", "X-Anvil-Number": "1"}
    for path in ("/hooks/anvil", "/hooks/anvil/anvil.example"):
        assert (await Http(web.port).call("POST", path, b"{}", headers)).status == 202
    assert (await Http(web.port).call("POST", "/hooks/anvil", b"{}", {})).status == 401
    taken = cast("Taker", web.services.demand).taken
    assert [one.id for one in taken] == ["anvil.example 1"] * 2
    assert (await Http(web.port).call("POST", "/hooks/hammer", b"{}", headers)).status == 400


async def test_a_launch_in_its_ci_is_known_and_taken(web: Served) -> None:
    run = KINDS.run(IN_A_JOB)
    assert run is not None
    names = names_of(run, "", "")
    assert (run.site, names.label[:6]) == (BELL, "run-7-")
    token = KINDS.token("anvil", IN_A_JOB)
    rights = await web.control.call("PUT", "/api/v1/forges/anvil", {"url": run.site.url, "token": token})
    assert (rights.status, rights.json["kind"]) == (200, "anvil")
    runner = {"url": run.site.url, "forge": "anvil", "labels": [names.label]}
    wish = {"id": names.job(1), "spec": {"run": [], "kind": "ci-runner", "runner": runner}}
    made = await web.control.post("/api/v1/jobs", wish)
    assert made.status == 201, made.body
    runner["forge"] = "hammer"
    refused = await web.control.post("/api/v1/jobs", wish | {"id": names.job(2)})
    assert (refused.status, refused.message) == (400, "'hammer' is not a kind of forge")


@pytest.mark.parametrize("software", [NAME, "hammer"])
async def test_its_program_goes_to_the_agent_within_the_order(web: Served, software: str) -> None:
    """And an agent runs it: tests/unit/agent/test_programs.py."""
    cast("FakeRegistrar", web.services.registrar).software = Software(software, "1.0", f"{BELL.base}/r", "ab" * 32)
    runner = RunnerSpec("https://forge.example/acme/bell", "anvil", ("gpu",))
    agent, _ = await web.running(JobSpec(run=(), kind="ci-runner", runner=runner))
    (ought,) = (await agent.sync()).attempts
    assert ought.order is not None
    assert ought.order.runner is not None
    if software != NAME:
        assert ought.order.runner.program == {}
        return
    read = program_of(ought.order.runner)
    assert (read.executable, read.secret, read.again) == ("bin/smith", "ANVIL_IRON", {42: 0.01})
    assert read.variables == {"repository": ["ANVIL_PLACE"], "run": ["ANVIL_STRIKE", "ANVIL"]}


async def test_a_run_of_its_ci_comes_by_its_word(settings: Settings, forges: OpenForges) -> None:
    asked = KINDS.id_token(IN_A_JOB, "us")
    assert asked is not None
    assert asked.url == "https://anvil.example/id?for=us"
    policies = [policy_of(one, settings.public_url) for one in settings.ci]
    door = Door(policies, cast("Any", Issued()), forges, HandClock(), b"k", KINDS)
    session, _ = await door.exchange("a token of Anvil's")
    assert session.run == "https://anvil.example/acme/bell#7.1"


class Issued:
    """Stands for the issuers: what a token says whose signature was right."""

    async def claims(self, token: str, audiences: set[str]) -> dict[str, object]:
        (audience,) = audiences
        return {"iss": "https://anvil.example/issuer", "aud": audience, "place": "acme/bell", "strike": 7}
