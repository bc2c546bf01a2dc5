"""Webhooks over HTTP: the signature over the raw bytes is the login, and whatever has none does nothing."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from provisioner.app.webhooks import ForgeWebhooks, Hook
from provisioner.domain.demand import PoolShown, Source, Waiting
from provisioner.domain.errors import ForgeRefused, ForgeUnauthorized
from provisioner.domain.forge import Delivery, ForgeKind, Site

from .served import Answer, Http, Served, serve

SECRET = b"a secret of the forge's"
GITHUB = Site(ForgeKind("github"), "https://github.com", "")
SHOWN = PoolShown(
    "gpu", ("https://github.com/acme",), ("gpu",), 9, 1, 2, 3, {"idle": 1}, ("2 jobs wait",), ({"id": "7"},)
)


def sign(body: bytes, secret: bytes = SECRET) -> dict[str, str]:
    return {"X-Sum": hmac.new(secret, body, hashlib.sha256).hexdigest()}


def read(headers: Mapping[str, str], body: bytes) -> Delivery:
    """As the forges' own functions: genuine, then understood."""
    if not hmac.compare_digest(headers.get("x-sum", "").encode(), sign(body)["X-Sum"].encode()):
        raise ForgeUnauthorized("the webhook's signature is missing or wrong")
    try:
        return Delivery(json.loads(body)["id"], "workflow_job")
    except ValueError as error:
        raise ForgeRefused("a webhook that is not JSON") from error


class Taker:
    """The Demand port in memory."""

    def __init__(self) -> None:
        self.taken: list[Delivery] = []

    async def take(self, delivery: Delivery) -> bool:
        fresh = delivery.id not in [one.id for one in self.taken]
        self.taken.append(delivery)
        return fresh

    async def shown(self) -> list[PoolShown]:
        return [SHOWN]

    def waiting(self) -> Waiting:
        polls = [Source("poll https://github.com/acme", 12.5), Source("poll https://github.com/b", 3.0)]
        return Waiting(61.5, 4, (*polls, Source("webhooks", None)))


@pytest.fixture
async def taker() -> Taker:
    return Taker()


@pytest.fixture
async def web(tmp_path: Path, taker: Taker) -> AsyncIterator[Served]:
    served = await serve(tmp_path)
    for listener in served.listeners:
        await listener.close()
    hooks = ForgeWebhooks(
        {
            ("github", "acme"): Hook(GITHUB, read),
            ("gitlab", "a"): Hook(GITHUB, read),
            ("gitlab", "b"): Hook(GITHUB, read),
        }
    )
    served.services = replace(served.services, webhooks=hooks, demand=taker)
    await served.start()
    try:
        yield served
    finally:
        await served.close()


async def post(web: Served, body: bytes, headers: Mapping[str, str], path: str = "/hooks/github") -> Answer:
    return await Http(web.port).call("POST", path, body, headers)


async def events(web: Served) -> list[str]:
    return [event.message for event in await web.store.records.events() if event.what == "webhook.refused"]


async def test_a_genuine_webhook_is_taken_under_its_forges_name(web: Served, taker: Taker) -> None:
    body = b'{"id": "d1"}'
    answer = await post(web, body, sign(body), "/hooks/github/acme")
    assert (answer.status, answer.json) == (202, {"taken": True})
    assert taker.taken == [Delivery("github.com d1", "workflow_job", None, {"base": "https://github.com"})]


async def test_a_replayed_one_does_nothing_and_is_logged_and_no_event(web: Served, taker: Taker) -> None:
    """A stranger may have kept a genuine one, and forges deliver some twice."""
    body = b'{"id": "d1"}'
    with capture_logs() as logged:
        assert (await post(web, body, sign(body))).json == {"taken": True}
        assert logged == []
        again = await post(web, body, sign(body), "/hooks/github/acme")
    assert (again.status, again.json) == (202, {"taken": False, "why": "it was delivered before"})
    place = {"hook": "github/acme", "delivery": "github.com d1"}
    assert logged == [{"event": "webhook.repeated", "log_level": "info", **place}]
    assert taker.taken == [Delivery("github.com d1", "workflow_job", None, {"base": "https://github.com"})] * 2
    assert await events(web) == []


@pytest.mark.parametrize(
    "headers",
    [{}, {"X-Sum": ""}, {"X-Sum": "0" * 64}, {"X-Sum": "ä"}, sign(b'{"id": "d2"}'), sign(b'{"id": "d1"}', b"wrong")],
)
async def test_unsigned_and_forged_ones_do_nothing_and_are_told(
    web: Served, taker: Taker, headers: Mapping[str, str]
) -> None:
    answer = await post(
        web, b'{"id": "d1"}', {name: value.encode().decode("latin-1") for name, value in headers.items()}
    )
    assert (answer.status, answer.kind) == (401, "Unauthenticated")
    assert taker.taken == []
    assert await events(web) == ["github: the webhook's signature is missing or wrong"]


async def test_the_signature_is_over_the_bytes_as_they_came(web: Served, taker: Taker) -> None:
    """The same object, written otherwise, is another body."""
    answer = await post(web, b'{"id":"d1"}', sign(b'{"id": "d1"}'))
    assert answer.status == 401
    odd = b'{"id": "d1", "x": "\xc3\xa4 \\u00e4"}\r\n'
    assert (await post(web, odd, sign(odd))).status == 202


async def test_a_flood_of_forged_ones_is_told_once(web: Served) -> None:
    for _ in range(5):
        await post(web, b"{}", {})
    assert len(await events(web)) == 1


async def test_one_that_is_not_understood_does_nothing(web: Served, taker: Taker) -> None:
    answer = await post(web, b"not json", sign(b"not json"))
    assert (answer.status, answer.json) == (202, {"taken": False, "why": "a webhook that is not JSON"})
    assert taker.taken == []
    assert len(await events(web)) == 1


@pytest.mark.parametrize("path", ["/hooks/gitea", "/hooks/gitlab", "/hooks/github/other"])
async def test_where_none_are_expected_there_is_nothing(web: Served, taker: Taker, path: str) -> None:
    answer = await post(web, b"{}", sign(b"{}"), path)
    assert (answer.status, answer.kind) == (404, "NotFound")


async def test_a_body_over_25_mb_is_not_read(web: Served, taker: Taker) -> None:
    answer = await post(web, b"{}", {"Content-Length": str(25 * 2**20 + 1)})
    assert answer.status == 413
    large = b'{"id": "d1", "x": "' + b"x" * 5 * 2**20 + b'"}'
    assert (await post(web, large, sign(large))).status == 202


async def test_one_that_does_not_come_to_its_end_is_not_waited_for(web: Served, taker: Taker) -> None:
    web.services.strangers.patience_s = 0.05
    answer = await post(web, b"{", {"Content-Length": "100"})
    assert (answer.status, answer.message) == (408, "the body did not come within 0.05 s")
    assert await events(web) == []


async def test_there_is_room_for_so_many_bodies_at_a_time(web: Served, taker: Taker) -> None:
    """What was never finished holds no memory once it has been given up."""
    web.services.strangers.most_bytes, web.services.strangers.patience_s = 2**20, 0.5
    unfinished = asyncio.create_task(post(web, b"x" * (2**20 - 2**15), {"Content-Length": str(2**20)}))
    body = b'{"id": "d1", "x": "' + b"x" * 2**16 + b'"}'
    refused = Answer(0, b"", {})
    while not unfinished.done() and refused.status != 503:
        refused = await post(web, body, sign(body))
    assert (refused.status, refused.headers["retry-after"]) == (503, "10")
    assert (await unfinished).status == 408
    assert (await post(web, body, sign(body))).status == 202


async def test_only_people_and_forges_come_to_that_listener(web: Served) -> None:
    for where in (web.agents, web.folder / "control.sock"):
        assert (await Http(where).call("POST", "/hooks/github", b"{}", sign(b"{}"))).status == 404


async def test_pools_are_shown_and_explained(web: Served) -> None:
    viewer = await web.person("viewer")
    listed = (await viewer.get("/api/v1/pools")).json
    assert [(one["id"], one["wanted"], "jobs" in one) for one in listed] == [("gpu", 3, False)]
    assert (await viewer.get("/api/v1/pools/gpu")).json["jobs"] == [{"id": "7"}]
    assert (await viewer.get("/api/v1/pools/gpu/why")).json == {"pool": "gpu", "lines": ["2 jobs wait"]}
    assert (await viewer.get("/api/v1/pools/cpu")).status == 404
    assert (await Http(web.port).get("/api/v1/pools")).status == 401


async def test_health_and_metrics_say_how_old_each_source_is(web: Served) -> None:
    told, shown = await asyncio.gather(Http(web.port).get("/healthz"), (await web.person("viewer")).get("/metrics"))
    ages = {"poll": 12.5, "webhooks": None}
    assert told.json["demand"] == {"oldest_queued_s": 61.5, "last_success_age_s": ages}
    assert "acme" not in told.body.decode()
    assert b'runner_ci_source_age_seconds{source="poll https://github.com/acme"} 12.5' in shown.body
    assert b"runner_ci_jobs_oldest_seconds 61.5" in shown.body
