"""Who may do what over TCP, and the rest of the people's API: tokens, secrets, blobs, machines, events, operations."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest

from provisioner.domain.job import JobSpec
from provisioner.domain.place import Ladder, Rung
from provisioner.domain.store import Event
from tests.fakes.disk import files_left

from .served import OFFER, Http, Served

JOB: dict[str, Any] = {"id": "job-by-token", "spec": {"run": "true"}}


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"id": 5}', b"\xff"])
async def test_nothing_of_a_strangers_body_is_looked_at(web: Served, body: bytes) -> None:
    for method, path in (("POST", "/api/v1/jobs"), ("PUT", "/api/v1/secrets/A"), ("POST", "/api/v1/tokens")):
        answer = await Http(web.port).call(method, path, body)
        assert (answer.status, answer.kind) == (401, "Unauthenticated")


@pytest.mark.parametrize("token", ["", "rt_wrong", "Bearer", "rs_" + "0" * 64, "x" * 10_000])
async def test_a_wrong_token_opens_nothing(web: Served, token: str) -> None:
    stranger = Http(web.port, token)
    for method, path in (
        ("GET", "jobs"),
        ("POST", "jobs"),
        ("GET", "secrets"),
        ("GET", "status"),
        ("PUT", "blobs/" + "a" * 64),
        ("POST", "shutdown"),
        ("POST", "gc"),
        ("GET", "jobs/x/log"),
    ):
        answer = await stranger.call(method, f"/api/v1/{path}", JOB if method == "POST" else None)
        assert (answer.status, answer.kind) == (401, "Unauthenticated")
    assert (await stranger.get("/metrics")).status == 401
    assert (await stranger.get("/healthz")).status == 200


async def test_roles(web: Served) -> None:
    viewer, user, admin = [await web.person(role, role) for role in ("viewer", "user", "admin")]
    assert (await viewer.get("/api/v1/jobs")).status == 200
    assert (await viewer.post("/api/v1/jobs", JOB)).status == 403
    assert (await user.post("/api/v1/jobs", JOB)).json["owner"] == "user"
    mine = await web.job(owner="ann")
    assert (await user.post(f"/api/v1/jobs/{mine.id}/cancel", {})).status == 403
    assert (await user.post(f"/api/v1/jobs/{mine.id}/rerun", {"id": "job-again"})).status == 403
    assert (await admin.post(f"/api/v1/jobs/{mine.id}/cancel", {})).status == 200
    instance = await web.instance()
    assert (await user.post(f"/api/v1/instances/{instance.id}/stop", {})).status == 403
    for path in ("tokens", "gc"):
        assert (await user.post(f"/api/v1/{path}", {})).status in (400, 403)
    assert (await user.get("/api/v1/tokens")).status == 403
    assert (await admin.get("/api/v1/tokens")).status == 200


async def test_a_token_names_its_owner_whatever_the_header_says(web: Served) -> None:
    person = await web.person("user", "bob")
    answer = await person.call("POST", "/api/v1/jobs", JOB, {"X-Runner-User": "root"})
    assert answer.json["owner"] == "bob"


async def test_a_token_is_shown_once_and_ends(web: Served) -> None:
    made = (await web.control.post("/api/v1/tokens", {"name": "ci", "role": "user"})).json
    (listed,) = (await web.control.get("/api/v1/tokens")).json
    assert (listed["id"], listed["name"], listed["role"]) == (made["id"], "ci", "user")
    assert made["token"] not in json.dumps(listed)
    assert made["token"].encode() not in (web.folder / "runner.db").read_bytes()
    person = Http(web.port, made["token"])
    assert (await person.get("/api/v1/jobs")).status == 200
    await web.control.call("DELETE", f"/api/v1/tokens/{made['id']}")
    assert (await person.get("/api/v1/jobs")).status == 401


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "x"},
        {"name": "x", "role": "god"},
        {"name": "a b", "role": "user"},
        {"name": "x", "role": "user", "expires_s": -1},
    ],
)
async def test_a_wrong_token_request_is_refused(web: Served, body: dict[str, Any]) -> None:
    assert (await web.control.post("/api/v1/tokens", body)).status == 400


async def test_a_secret_is_never_shown(web: Served) -> None:
    assert (await web.control.call("PUT", "/api/v1/secrets/HF_TOKEN", {"value": "hunter22"})).status == 200
    answer = await web.control.get("/api/v1/secrets")
    assert [one["name"] for one in answer.json] == ["HF_TOKEN"]
    assert b"hunter22" not in answer.body
    assert (await (await web.person("user")).get("/api/v1/secrets")).json == []
    body = {"id": "job-with", "spec": {"run": "true", "secrets": ["HF_TOKEN"]}}
    assert (await web.control.post("/api/v1/jobs", body)).status == 201
    assert (await web.control.call("DELETE", "/api/v1/secrets/HF_TOKEN")).status == 200
    assert (await web.control.get("/api/v1/secrets")).json == []


@pytest.mark.parametrize(("name", "value"), [("A", "short"), ("1A", "long-enough"), ("A", "nul\0nul"), ("A", 5)])
async def test_a_wrong_secret_is_refused(web: Served, name: str, value: Any) -> None:
    assert (await web.control.call("PUT", f"/api/v1/secrets/{name}", {"value": value})).status == 400


async def test_a_blob_shows_only_under_its_hash(web: Served) -> None:
    data = b"packed" * 50_000
    name = hashlib.sha256(data).hexdigest()
    path = f"/api/v1/blobs/{name}"
    assert (await web.control.call("HEAD", path)).status == 404
    wrong = await web.control.call("PUT", path, data[:-1])
    assert (wrong.status, wrong.kind) == (400, "InvalidRequest")
    assert (await web.control.call("HEAD", path)).status == 404
    assert (await web.control.call("PUT", path, data)).status == 201
    assert (await web.control.call("HEAD", path)).status == 200
    assert (await web.control.call("PUT", "/api/v1/blobs/..%2f..%2fx", data)).status in (400, 404)
    assert (await web.control.call("PUT", "/api/v1/blobs/ABC", data)).status == 400


async def test_instances_show_who_keeps_them_and_when_they_were_heard(web: Served) -> None:
    agent, attempt = await web.running(JobSpec(run="true"))
    (listed,) = (await web.control.get("/api/v1/instances")).json
    assert (listed["id"], listed["busy"], listed["heard_s"]) == (attempt.instance_id, attempt.job_id, None)
    await agent.sync()
    shown = (await web.control.get(f"/api/v1/instances/{attempt.instance_id}")).json
    assert 0 <= shown["heard_s"] < 10
    assert shown["cost_unknown"] is False
    assert (await web.control.post(f"/api/v1/instances/{attempt.instance_id}/stop", {})).json["stop_asked_at"]


async def test_events_are_waited_for(web: Served) -> None:
    first = await web.store.records.record(Event("test.happened", web.services.clock.now()))
    assert [one["what"] for one in (await web.control.get("/api/v1/events")).json] == ["test.happened"]
    waiting = asyncio.create_task(web.control.get(f"/api/v1/events?after={first.id}&wait_s=10"))
    began = time.monotonic()
    await web.job()
    (event,) = (await waiting).json
    assert event["what"] == "job.queued"
    assert time.monotonic() - began < 5
    assert (await web.control.get(f"/api/v1/events?after={event['id']}&wait_s=0.1")).json == []


async def test_offers_in_order_with_reasons(web: Served) -> None:
    (rung,) = (await web.control.get("/api/v1/offers?gpu=A100&cpus=2&market=on-demand&max_price=1.5")).json
    assert (rung["text"], rung["refused"], rung["offer"]["usd_per_hour"]) == (str(OFFER), "", "0.5")


async def test_an_offer_says_how_old_its_price_is(web: Served) -> None:
    (rung,) = (await web.control.get("/api/v1/offers?gpu=A100")).json
    assert (rung["priced_at"], rung["age_s"]) == (None, None)
    old = replace(OFFER, priced_at=datetime.now(UTC) - timedelta(hours=1))
    web.desk.ladder_now = Ladder((Rung(old),))
    (rung,) = (await web.control.get("/api/v1/offers?gpu=A100")).json
    assert 3600 <= rung["age_s"] < 3660
    assert datetime.fromisoformat(rung["priced_at"]) == old.priced_at


async def test_offers_of_a_provider_that_is_not_here_are_an_error(web: Served) -> None:
    web.desk.ladder_now = Ladder((), unknown=("aws",), known=("local",))
    answer = await web.control.get("/api/v1/offers?provider=aws")
    assert (answer.status, answer.json["error"]["message"]) == (400, "no provider 'aws' here")


@pytest.mark.parametrize("query", ["gpu=A1OO", "cpus=-1", "cpus=x", "market=free", "max_price=nan", "memory=x"])
async def test_a_wrong_question_about_offers_is_refused(web: Served, query: str) -> None:
    answer = await web.control.get(f"/api/v1/offers?{query}")
    assert (answer.status, answer.kind) == (400, "InvalidRequest")


async def test_collecting_and_shutting_down(web: Served) -> None:
    assert (await web.control.post("/api/v1/gc", {"dry_run": True})).json == {"found": ["m"], "ended": []}
    admin = await web.person("admin")
    assert (await admin.post("/api/v1/shutdown", {})).status == 403
    assert (await web.control.post("/api/v1/shutdown", {"reason": "newer"})).status == 200
    assert web.ended == ["newer"]


async def test_status_counts(web: Served) -> None:
    await web.instance()
    await web.job()
    status = (await web.control.get("/api/v1/status")).json
    assert (status["live_instances"], status["open_jobs"], status["spend_usd_per_hour"]) == (1, 1, "0.50")
    assert status["protocol"] == 1


async def test_health_tells_of_the_last_pass(web: Served) -> None:
    healthy = await web.control.get("/healthz")
    assert (healthy.status, healthy.json["ok"]) == (200, True)
    web.desk.last_pass_at = datetime.now(UTC) - timedelta(seconds=61)
    stale = await web.control.get("/healthz")
    assert (stale.status, stale.json["ok"]) == (503, False)
    assert stale.json["last_pass_age_s"] > 60
    assert "error" not in stale.json


async def test_health_tells_that_no_files_can_be_opened(web: Served) -> None:
    """Passes go on then, and do nothing."""
    with files_left(8):
        short = await web.control.get("/healthz")
    assert (short.status, short.json["ok"]) == (503, False)
    assert short.json["error"].startswith("Too many open files: raise the limit")
    assert (await web.control.get("/healthz")).status == 200


async def test_health_tells_on_what_the_engine_broke(web: Served) -> None:
    now = datetime.now(UTC)
    web.trouble = (now, "engine: the disk is full")
    web.desk.last_pass_at = now - timedelta(seconds=61)
    assert (await web.control.get("/healthz")).json["error"] == "engine: the disk is full"
    web.desk.last_pass_at = now + timedelta(seconds=1)
    assert "error" not in (await web.control.get("/healthz")).json


async def test_metrics_are_prometheus_text(web: Served) -> None:
    object.__setattr__(web.services, "paused", lambda: {"forges": "a forge does not answer"})
    agent, attempt = await web.running()
    await agent.log(attempt, 0, (1, b"12345"))
    await agent.sync()
    lines = (await web.control.get("/metrics")).body.decode().splitlines()
    for line in (
        'runner_jobs{phase="running"} 1.0',
        'runner_instances{phase="ready"} 1.0',
        "runner_usd_per_hour 0.5",
        "runner_log_bytes_total 5.0",
        "runner_syncs_total 1.0",
        "runner_oldest_waiting_seconds 0.0",
        'runner_paused{what="forges"} 1.0',
    ):
        assert line in lines


class _Addresses(HTMLParser):
    found: list[str]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "img", "iframe")
        self.found += [value or "" for name, value in attrs if name in ("href", "src")]


async def test_the_docs_page_needs_nothing_but_itself(web: Served) -> None:
    answer = await Http(web.port).get("/docs")
    assert answer.status == 200
    page = answer.body.decode()
    parser = _Addresses()
    parser.found = []
    parser.feed(page)
    assert parser.found
    assert all(address == "/openapi.json" or address.startswith("#") for address in parser.found)
    for text in ("/api/v1/jobs/{id}/log", "JobSpec", "log_limit_bytes", "/healthz"):
        assert text in page


async def test_openapi_has_every_route_and_every_shape(web: Served) -> None:
    described = (await web.control.get("/openapi.json")).json
    assert described["openapi"].startswith("3.")
    text = json.dumps(described)
    shapes = described["components"]["schemas"]
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in shapes
    assert "/agent/v1/sync" not in described["paths"]
    assert described["paths"]["/api/v1/jobs"]["get"]["responses"]["200"]["content"]["application/json"]["schema"] == {
        "type": "array",
        "items": {"$ref": "#/components/schemas/Job"},
    }


async def test_a_wrong_name_on_the_control_socket_is_refused(web: Served) -> None:
    answer = await web.control.call("GET", "/api/v1/jobs", headers={"X-Runner-User": "a b;"})
    assert answer.status == 400


async def test_a_wrong_method_says_so(web: Served) -> None:
    answer = await web.control.call("PATCH", "/api/v1/jobs")
    assert (answer.status, answer.kind) == (405, "InvalidRequest")


async def test_a_price_below_a_cent_is_not_lost(web: Served) -> None:
    await web.instance(offer=replace(OFFER, usd_per_hour=OFFER.usd_per_hour and OFFER.usd_per_hour / 1000))
    assert (await web.control.get("/api/v1/status")).json["spend_usd_per_hour"] == "0.0005"
