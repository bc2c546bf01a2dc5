"""Credentials come in by the control socket alone, and nothing of them comes out anywhere."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from provisioner.domain.credentials import Credentials, Identity, Taken
from provisioner.domain.errors import Conflict
from provisioner.domain.policy import Policy

from .served import Http, Served, serve

SECRET = "wJalrXUtnFEMI-not-to-be-seen"
BODY: dict[str, Any] = {
    "keys": {"access_key_id": "AKIA", "secret_access_key": SECRET},
    "way": {"region": "us-east-1", "proxy.https": f"http://me:{SECRET}@proxy"},
    "expires_at": "2026-03-04T12:00:00+00:00",
    "temporary": True,
}
PATH = "/api/v1/credentials/aws"


class Ring:
    """The Keyring port, as a test plays it."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, Credentials, bool]] = []
        self.refusal: Conflict | None = None
        self.short: tuple[str, str] | None = None
        self.first = False

    async def take(self, provider: str, credentials: Credentials, *, same: bool = False) -> Taken:
        if self.refusal:
            raise self.refusal
        self.taken.append((provider, credentials, same))
        return Taken(Identity("111", "user/ann"), credentials.expires_at, self.first, ("a note",))

    def too_short(self, provider: str, lifetime_s: float) -> tuple[str, str] | None:
        return self.short


class WithRing(Served):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.ring = Ring()
        self.paused: dict[str, str] = {}
        self.services = replace(self.services, keyring=self.ring, paused=lambda: self.paused)


@pytest.fixture
async def ringed(tmp_path: Path) -> AsyncIterator[WithRing]:
    plain = await serve(tmp_path)
    for listener in plain.listeners:
        await listener.close()
    made = WithRing(tmp_path, plain.store, str(tmp_path / "objects"), Policy())
    await made.start()
    yield made
    await made.close()


async def test_they_are_taken_as_they_were_resolved(ringed: WithRing) -> None:
    answer = await ringed.control.call("PUT", PATH, BODY)
    assert answer.json == {
        "identity": {"account": "111", "name": "user/ann"},
        "expires_at": "2026-03-04T12:00:00Z",
        "first": False,
        "notes": ["a note"],
        "offer": "",
        "cap": {"max_usd_per_hour": "10", "max_instances": 8},
    }
    ((provider, taken, same),) = ringed.ring.taken
    assert (provider, taken.keys, taken.way, same) == ("aws", BODY["keys"], BODY["way"], False)
    assert (taken.expires_at, taken.temporary) == (datetime(2026, 3, 4, 12, tzinfo=UTC), True)


async def test_the_first_use_shows_what_the_job_would_cost(ringed: WithRing) -> None:
    ringed.ring.first = True
    answer = await ringed.control.call("PUT", PATH, {**BODY, "need": {"cpus": 2}, "same": True})
    assert answer.json["offer"] == "local here-a this on-demand $0.5/h"
    assert ringed.ring.taken[0][2] is True


async def test_no_other_door_has_the_route(ringed: WithRing) -> None:
    """Neither with an admin's token over TCP, nor where agents come in."""
    doors = [await ringed.person("admin"), Http(ringed.port), Http(ringed.agents)]
    assert [(await door.call("PUT", PATH, BODY)).status for door in doors] == [404, 404, 404]
    assert ringed.ring.taken == []


async def test_a_served_controller_takes_none(web: Served) -> None:
    answer = await web.control.call("PUT", PATH, BODY)
    assert (answer.status, answer.kind) == (409, "Conflict")


@pytest.mark.parametrize(
    "body",
    [
        {**BODY, "expires_at": SECRET},
        {**BODY, "keys": SECRET},
        {**BODY, "keys": {"secret_access_key": [SECRET]}},
        {"keys": {}, "way": {"a": {"b": SECRET}}},
        SECRET.encode(),
        {**BODY, "need": {"cpus": SECRET}},
    ],
)
async def test_a_refusal_does_not_repeat_what_it_was_given(
    ringed: WithRing, body: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    ringed.ring.first = True
    answer = await ringed.control.call("PUT", PATH, body)
    assert answer.status == 400
    assert SECRET.encode() not in answer.body
    assert SECRET not in "".join(capfd.readouterr())


async def test_what_the_keyring_says_no_to_is_said(ringed: WithRing) -> None:
    ringed.ring.refusal = Conflict("those are of another account", hint="use these")
    answer = await ringed.control.call("PUT", PATH, BODY)
    assert (answer.status, answer.message) == (409, "those are of another account")


async def test_a_job_that_they_would_not_outlast_is_refused_and_not_stored(ringed: WithRing) -> None:
    ringed.ring.short = ("the credentials end too soon", "add --max-lifetime 48m")
    body = {"id": "job-long", "spec": {"run": "true"}}
    answer = await ringed.control.post("/api/v1/jobs", body)
    assert (answer.status, answer.json["error"]["hint"]) == (409, "add --max-lifetime 48m")
    assert (await ringed.control.get("/api/v1/jobs/job-long")).status == 404
    ringed.ring.short = None
    assert (await ringed.control.post("/api/v1/jobs", body)).status == 201


async def test_a_pause_shows_in_the_health_of_a_controller_that_is_well(ringed: WithRing) -> None:
    assert "paused" not in (await ringed.control.get("/healthz")).json
    ringed.paused = {"aws": "aws is paused: because"}
    health = await ringed.control.get("/healthz")
    assert (health.status, health.json["ok"], health.json["paused"]) == (200, True, ringed.paused)


async def test_what_will_soon_be_refused_shows_in_its_health(ringed: WithRing) -> None:
    assert "warnings" not in (await ringed.control.get("/healthz")).json
    object.__setattr__(ringed.services, "warnings", lambda: ["a forge refuses actions-runner 2.330.0"])
    health = (await ringed.control.get("/healthz")).json
    assert (health["ok"], health["warnings"]) == (True, ["a forge refuses actions-runner 2.330.0"])


async def test_nothing_of_them_is_on_the_disk(ringed: WithRing) -> None:
    await ringed.control.call("PUT", PATH, BODY)
    holding = [p for p in ringed.folder.rglob("*") if p.is_file() and SECRET.encode() in p.read_bytes()]
    assert holding == []
    assert SECRET not in json.dumps((await ringed.control.get("/openapi.json")).json)
