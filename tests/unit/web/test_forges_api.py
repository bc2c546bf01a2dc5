"""Rights at forges come in by the control socket alone, and nothing of them comes out anywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from provisioner.app.forges import OpenForges
from provisioner.domain.forge import ForgeKind, Runner, Site
from provisioner.domain.ids import instance_name, new_id
from provisioner.domain.job import JobSpec, RunnerSpec
from provisioner.domain.policy import Policy
from provisioner.engine.ghosts import GhostHunt
from tests.fakes.hand_clock import HandClock
from tests.fakes.open_forge import FakeForges

from .served import Http, Served, serve

SECRET = "ghp_not-to-be-seen"
VISION = Site(ForgeKind("github"), "https://github.com", "acme/vision")
PATH = "/api/v1/forges/github"
BODY: dict[str, Any] = {"url": VISION.url, "token": SECRET}


class WithForges(Served):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.world = FakeForges({SECRET: {"acme/vision"}})
        self.forges = OpenForges([], self.folder, {}, HandClock(), handed=True, opener=self.world.open)
        ghosts = GhostHunt(self.store, self.forges, HandClock())
        self.services = replace(self.services, forge_keyring=self.forges, ghosts=ghosts)


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[WithForges]:
    plain = await serve(tmp_path)
    for listener in plain.listeners:
        await listener.close()
    made = WithForges(tmp_path, plain.store, str(tmp_path / "objects"), Policy())
    await made.start()
    yield made
    await made.forges.close()
    await made.close()


async def test_they_are_taken_once_the_forge_was_asked(web: WithForges) -> None:
    answer = await web.control.call("PUT", PATH, BODY)
    assert (answer.status, answer.json) == (200, {"site": VISION.url, "kind": "github"})
    assert (await web.forges.of(VISION).runners(VISION)) == []


async def test_what_opens_nothing_is_refused_in_one_line(web: WithForges) -> None:
    answer = await web.control.call("PUT", PATH, BODY | {"url": "https://github.com/acme/speech"})
    assert (answer.status, answer.kind) == (409, "Conflict")
    assert answer.message.startswith("https://github.com/acme/speech was not opened: GET acme/speech: 403")


async def test_no_other_door_has_the_route(web: WithForges) -> None:
    doors = [await web.person("admin"), Http(web.port), Http(web.agents)]
    assert [(await door.call("PUT", PATH, BODY)).status for door in doors] == [404, 404, 404]
    assert web.world.opened == []


async def test_a_forge_may_begin_below_its_hosts_root(web: WithForges) -> None:
    body = BODY | {"url": "https://host/gitlab/acme/vision", "base": "https://host/gitlab"}
    assert (await web.control.call("PUT", "/api/v1/forges/gitlab", body)).status == 200
    site = Site(ForgeKind("gitlab"), "https://host/gitlab", "acme/vision")
    assert (await web.forges.of(site).runners(site)) == []
    assert (await web.control.call("PUT", "/api/v1/forges/gitlab", body | {"base": "https://other"})).status == 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PATH, {"url": VISION.url, "token": [SECRET]}),
        (PATH, {"url": [SECRET], "token": SECRET}),
        (PATH, {"token": SECRET}),
        (PATH, SECRET.encode()),
        ("/api/v1/forges/svn", BODY),
        (PATH, BODY | {"url": "ftp://github.com/acme/vision"}),
    ],
)
async def test_a_refusal_does_not_repeat_what_it_was_given(
    web: WithForges, path: str, body: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = await web.control.call("PUT", path, body)
    assert answer.status == 400
    assert SECRET.encode() not in answer.body
    assert SECRET not in "".join(capfd.readouterr())


async def test_nothing_of_them_is_written(web: WithForges, tmp_path: Path) -> None:
    assert (await web.control.call("PUT", PATH, BODY)).status == 200
    assert [path for path in _files(tmp_path) if SECRET.encode() in path.read_bytes()] == []


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_a_ghost_goes_once_it_was_seen_before_and_what_stays_is_said(web: WithForges) -> None:
    assert (await web.control.call("PUT", PATH, BODY)).status == 200
    at = HandClock().now() - timedelta(hours=2)
    names = [instance_name(new_id("i", at, web.bits)) for _ in range(3)]
    web.world.there = {name: Runner("7", name, online=False, busy=False) for name in names}
    web.world.stays = {names[1]: "it has a job"}
    asked: dict[str, Any] = {"url": VISION.url, "forge": "github", "older_than_s": 3600}
    path = "/api/v1/gc/runners"
    first = (await web.control.post(path, asked)).json
    assert first == {"found": names, "ended": [], "refused": {}}
    assert (await web.control.post(path, asked | {"remove": True})).json["found"] == []
    del web.world.there[names[2]]
    assert (await web.control.post(path, asked | {"seen": first["found"]})).json["found"] == names[:2]
    assert sorted(web.world.there) == sorted(names[:2])
    last = (await web.control.post(path, asked | {"seen": first["found"], "remove": True})).json
    assert last == {"found": names[:2], "ended": names[:1], "refused": {names[1]: "it has a job"}}
    assert [event.what for event in await web.store.records.events()] == ["runner.collected"]
    assert list(web.world.there) == names[1:2]


async def test_ghosts_are_an_admins_affair(web: WithForges) -> None:
    asked = {"url": VISION.url, "forge": "github", "older_than_s": 3600}
    assert (await (await web.person("user")).post("/api/v1/gc/runners", asked)).status == 403


async def test_a_served_controller_takes_none(tmp_path: Path) -> None:
    plain = await serve(tmp_path)
    answer = await plain.control.call("PUT", PATH, BODY)
    assert (answer.status, answer.kind) == (409, "Conflict")
    await plain.close()


async def test_a_job_shows_its_runners_and_says_how_far_they_are(web: WithForges) -> None:
    spec = JobSpec(run=(), kind="ci-runner", runner=RunnerSpec(VISION.url, "github", ("run-1",)))
    instance = await web.instance()
    attempt = await web.assigned(await web.job(spec), instance)
    now = web.services.clock.now()
    row = await web.store.runners.expect(attempt, VISION, instance.name, now)
    path = f"/api/v1/jobs/{attempt.job_id}"
    (shown,) = (await web.control.get(path)).json["runners"]
    told = {"name": instance.name, "site": VISION.url, "forge_id": "", "online_at": None, "gone_at": None}
    assert {key: shown[key] for key in told} == told
    await web.store.runners.note(row.name, forge_id="7", online_at=now)
    (shown,) = (await web.control.get(path)).json["runners"]
    assert (shown["forge_id"], shown["online_at"] is not None, shown["busy_at"]) == ("7", True, None)
    lines = (await web.control.get(f"{path}/why")).json["lines"]
    waits = f"  its runner {instance.name} waits for a job at {VISION.url}, since "
    assert any(line.startswith(waits) for line in lines)
