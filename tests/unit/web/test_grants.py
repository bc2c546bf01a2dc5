"""Grants, objects and manifests: what an attempt may put and get, through the controller and by signed request."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from agent import wire
from provisioner.domain.job import Attempt, CheckpointSpec, InputSpec, JobSpec, Outcome, Reason, Why, Workspace
from tests.contracts.objects_laws import post, send
from tests.fakes import s3

from .served import AgentClient, Answer, Served, serve

SPEC = JobSpec(run="true", outputs=("*",), checkpoint=CheckpointSpec("ckpt"))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def item(data: bytes) -> wire.GrantItem:
    return wire.GrantItem(sha256(data), len(data), sha256(data))


def entry(path: str, data: bytes) -> wire.FileEntry:
    return wire.FileEntry(path, len(data), sha256(data), sha256(data))


async def sent(agent: AgentClient, attempt: Attempt, area: str, *datas: bytes) -> None:
    for grant, data in zip((await agent.ask(attempt, area, "put", *map(item, datas))).grants, datas, strict=True):
        if not grant.exists:
            assert (await agent.call(grant.method, grant.url, data)).status == 201


async def manifest(
    agent: AgentClient, attempt: Attempt, area: str, sequence: int, *files: wire.FileEntry, final: bool = False
) -> Answer:
    message = wire.Manifest(attempt.job_id, attempt.number, area, sequence, final, list(files))
    return await agent.call("POST", "/agent/v1/manifest", wire.encode(message))


async def test_results_travel_through_the_controller_and_come_back(web: Served) -> None:
    agent, attempt = await web.running(SPEC)
    data = os.urandom(3 * 2**20 + 1)
    await sent(agent, attempt, "results", data)
    (again,) = (await agent.ask(attempt, "results", "put", item(data))).grants
    assert again.exists
    assert (await manifest(agent, attempt, "results", 1, entry("out/a b.bin", data), final=True)).status == 200
    results = (await web.control.get(f"/api/v1/jobs/{attempt.job_id}/results")).json
    assert (results["attempt"], results["final"]) == (1, True)
    path = f"/api/v1/jobs/{attempt.job_id}/results/1/files/out/a%20b.bin"
    assert (await web.control.get(path)).body == data
    part = await web.control.get(path, Range="bytes=100-199")
    assert (part.status, part.body) == (206, data[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(data)}"
    assert (await web.control.get(path, Range="bytes=-5")).body == data[-5:]
    assert (await web.control.get(f"/api/v1/jobs/{attempt.job_id}/results/1/files/none")).status == 404


async def test_the_final_manifest_is_an_object_too(web: Served) -> None:
    agent, attempt = await web.running(SPEC)
    await sent(agent, attempt, "results", b"x")
    await manifest(agent, attempt, "results", 1, entry("x", b"x"), final=True)
    assert (await manifest(agent, attempt, "results", 2, entry("x", b"x"), final=True)).status == 200
    path = web.folder / "objects" / "results" / attempt.job_id / "1" / "manifest.json"
    assert json.loads(path.read_text())["sequence"] == 1


async def test_a_wrong_hash_stores_nothing(web: Served) -> None:
    agent, attempt = await web.running(SPEC)
    (grant,) = (await agent.ask(attempt, "results", "put", item(b"right"))).grants
    answer = await agent.call("PUT", grant.url, b"wrong")
    assert (answer.status, answer.kind) == (400, "InvalidRequest")
    assert await web.services.objects.under("results") == []
    assert (await manifest(agent, attempt, "results", 1, entry("x", b"right"))).status == 503


async def test_a_manifest_of_a_dead_attempt_is_refused(web: Served) -> None:
    agent, attempt = await web.running(SPEC)
    await sent(agent, attempt, "results", b"x")
    await web.store.jobs.end(attempt, Reason(Why.LOST), web.services.clock.now())
    await web.assigned(await web.store.jobs.get(attempt.job_id), await web.instance())
    assert (await manifest(agent, attempt, "results", 1, entry("x", b"x"))).status == 409
    message = wire.GrantAsk(attempt.job_id, 1, "results", "put", [item(b"y")])
    assert (await agent.call("POST", "/agent/v1/grants", wire.encode(message))).status == 409
    late = f"/agent/v1/objects/results/{attempt.job_id}/1/{sha256(b'y')}"
    assert (await agent.call("PUT", late, b"y")).status == 409


@pytest.mark.parametrize(
    "changed",
    [
        {"path": "../x"},
        {"path": "/x"},
        {"path": ""},
        {"path": "a//b"},
        {"size": -1},
        {"sha256": "x"},
        {"mode": 0o100644},
        {"key": "../../blobs/x"},
        {"key": "manifest.json"},
    ],
)
async def test_a_manifest_that_would_fool_whoever_pulls_is_refused(web: Served, changed: dict[str, Any]) -> None:
    agent, attempt = await web.running(SPEC)
    await sent(agent, attempt, "results", b"x")
    wrong = replace(entry("x", b"x"), **changed)
    assert (await manifest(agent, attempt, "results", 1, wrong)).status == 400


async def test_two_checkpoints_are_kept_with_all_that_they_need(web: Served) -> None:
    agent, attempt = await web.running(SPEC)
    shared = b"shared"
    for sequence, data in enumerate((b"one", b"two", b"three"), start=1):
        await sent(agent, attempt, "checkpoints", shared, data)
        files = entry("shared", shared), entry("state", data)
        assert (await manifest(agent, attempt, "checkpoints", sequence, *files)).status == 200
    kept = {info.key.rsplit("/", 1)[1] for info in await web.services.objects.under(f"checkpoints/{attempt.job_id}")}
    assert kept == {sha256(shared), sha256(b"two"), sha256(b"three")}
    rows = await web.store.records.manifests(attempt.job_id, "checkpoints")
    assert [row.sequence for row in rows] == [2, 3]


async def test_a_new_attempt_starts_from_the_newest_checkpoint(web: Served) -> None:
    agent, attempt = await web.running(SPEC)
    await sent(agent, attempt, "checkpoints", b"state")
    await manifest(agent, attempt, "checkpoints", 1, entry("state", b"state"))
    await web.store.jobs.end(attempt, Reason(Why.LOST), web.services.clock.now())
    instance = await web.instance()
    second, other = await web.assigned(await web.store.jobs.get(attempt.job_id), instance), await web.agent(instance)
    (ought,) = (await other.sync()).attempts
    assert ought.order is not None
    assert ought.order.checkpoint is not None
    assert ought.order.checkpoint["files"][0]["sha256"] == sha256(b"state")
    (grant,) = (await other.ask(second, "checkpoints", "get", item(b"state"))).grants
    assert (grant.method, grant.size) == ("GET", 5)
    assert (await other.get(grant.url)).body == b"state"
    assert (await agent.get(grant.url)).status == 403


async def test_a_checkpoints_name_is_its_content(web: Served) -> None:
    agent, attempt = await web.running(SPEC)
    message = wire.GrantAsk(attempt.job_id, 1, "checkpoints", "put", [wire.GrantItem("latest", 1)])
    assert (await agent.call("POST", "/agent/v1/grants", wire.encode(message))).status == 400
    forged = f"/agent/v1/objects/checkpoints/{attempt.job_id}/{sha256(b'a')}"
    assert (await agent.call("PUT", forged, b"b")).status == 400


async def test_the_workspace_is_read_by_its_own_job_alone(web: Served) -> None:
    tar = b"tar" * 100_000
    await web.control.call("PUT", f"/api/v1/blobs/{sha256(tar)}", tar)
    agent, attempt = await web.running(JobSpec(run="true", workspace=Workspace(sha256(tar), len(tar), 1)))
    (grant,) = (await agent.ask(attempt, "workspace", "get", item(tar))).grants
    assert (await agent.get(grant.url)).body == tar
    resumed = await agent.get(grant.url, Range="bytes=299990-")
    assert (resumed.status, resumed.body) == (206, tar[299990:])
    other, _ = await web.running(SPEC)
    assert (await other.get(grant.url)).status == 404


async def test_inputs_are_read_from_where_the_spec_says_and_nowhere_else(web: Served) -> None:
    data = web.folder / "data"
    (data / "deep").mkdir(parents=True)
    (data / "deep" / "a#1").write_bytes(b"A")
    (data / "b").write_bytes(b"B")
    (web.folder / "private").write_bytes(b"P")
    inputs = (InputSpec(str(data), "in"), InputSpec(f"file://{data}/b", "single"))
    agent, attempt = await web.running(JobSpec(run="true", inputs=inputs))
    listed = (await agent.ask(attempt, "inputs", "list", wire.GrantItem(str(data)))).grants
    assert [(one.key, one.size) for one in listed] == [(f"{data}/b", 1), (f"{data}/deep/a#1", 1)]
    assert [(await agent.get(one.url)).body for one in listed] == [b"B", b"A"]
    (single,) = (await agent.ask(attempt, "inputs", "list", wire.GrantItem(f"file://{data}/b"))).grants
    assert (single.key, (await agent.get(single.url)).body) == (f"file://{data}/b", b"B")
    (again,) = (await agent.ask(attempt, "inputs", "get", wire.GrantItem(f"{data}/deep/a#1"))).grants
    assert (await agent.get(again.url)).body == b"A"
    for source in (f"{data}/../private", str(web.folder / "private"), "/etc/passwd", f"{data}x"):
        message = wire.GrantAsk(attempt.job_id, 1, "inputs", "get", [wire.GrantItem(source)])
        assert (await agent.call("POST", "/agent/v1/grants", wire.encode(message))).status == 403
    escape = f"/agent/v1/objects/inputs/{attempt.job_id}/1/0/../private"
    assert (await agent.get(escape)).status == 404
    assert (await agent.get(f"/agent/v1/objects/inputs/{attempt.job_id}/1/7/b")).status == 404


@pytest.mark.parametrize(
    "key",
    [
        "blobs/" + "a" * 64,
        "results/{job}/2/x",
        "results/{job}/1/../../x",
        "results/{job}/1/manifest.json",
        "results/{job}/1/",
        "results/{job}",
        "checkpoints/{job}/short",
        "checkpoints/other-job/" + "a" * 64,
        "logs/x",
        "",
        "..",
    ],
)
async def test_nothing_else_can_be_written(web: Served, key: str) -> None:
    agent, attempt = await web.running(SPEC)
    answer = await agent.call("PUT", f"/agent/v1/objects/{key.format(job=attempt.job_id)}", b"x")
    assert answer.status in (400, 403, 404, 409)
    assert await web.services.objects.under("") == []


@pytest.mark.parametrize(
    "change",
    [{"area": "blobs"}, {"area": "logs"}, {"op": "delete"}, {"op": "list"}, {"area": "workspace", "op": "put"}],
)
async def test_unknown_areas_and_ops_are_refused(web: Served, change: dict[str, str]) -> None:
    agent, attempt = await web.running(SPEC)
    ask = {"area": "results", "op": "put"} | change
    message = wire.GrantAsk(attempt.job_id, 1, ask["area"], ask["op"], [item(b"x")])
    assert (await agent.call("POST", "/agent/v1/grants", wire.encode(message))).status == 400


async def test_a_broken_upload_leaves_nothing(web: Served) -> None:
    agent, attempt = await web.running(SPEC)
    key = f"results/{attempt.job_id}/1/{sha256(b'x' * 1000)}"

    def half() -> None:
        connection = agent.connect()
        connection.putrequest("PUT", f"/agent/v1/objects/{key}")
        for name, value in agent.headers.items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", "1000")
        connection.endheaders(b"x" * 500)
        connection.close()

    await asyncio.to_thread(half)
    await sent(agent, attempt, "results", b"after")
    assert [info.key for info in await web.services.objects.under("results")] == [
        f"results/{attempt.job_id}/1/{sha256(b'after')}"
    ]


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3.moto(tmp_path_factory.mktemp("moto")) as server, server.in_environment():
        server.make_bucket("grants")
        yield "s3://grants/prefix"


@pytest.fixture
async def signing(tmp_path: Path, bucket: str) -> AsyncIterator[Served]:
    served = await serve(tmp_path, bucket)
    try:
        yield served
    finally:
        await served.close()


async def test_a_signing_store_is_written_and_read_directly(signing: Served) -> None:
    agent, attempt = await signing.running(SPEC)
    small, large = b"small", b"L" * (65 * 2**20)
    asked = await agent.ask(attempt, "results", "put", item(small), item(large))
    first, second = asked.grants
    assert (await send(first.url, first.method, small, first.headers))[0] == 200
    etags = []
    for number, url in enumerate(second.parts):
        part = large[number * second.part_size : (number + 1) * second.part_size]
        etags.append((await send(url, "PUT", part))[2])
    upload = {"key": second.key, "upload_id": second.upload_id, "parts": etags}
    await agent.ask(attempt, "results", "complete", uploads=[upload])
    files = entry("small", small), entry("large", large)
    assert (await manifest(agent, attempt, "results", 1, *files, final=True)).status == 200
    path = f"/api/v1/jobs/{attempt.job_id}/results/1/files/small"
    redirected = await signing.control.get(path)
    assert redirected.status == 307
    assert (await send(redirected.headers["location"], "GET", None))[1] == small
    where = f"/api/v1/jobs/{attempt.job_id}/results/1/links"
    told = (await signing.control.post(where, {"paths": ["large", "small"]})).json["links"]
    assert [(await send(told[name], "GET", None))[1] for name in ("small", "large")] == [small, large]
    assert (await signing.control.post(where, {"paths": ["small", "other"]})).status == 404
    assert (await signing.control.post(where, {"paths": ["small"] * 1001})).status == 400


async def test_rights_last_for_as_long_as_a_slow_line_takes_for_all_of_them(signing: Served) -> None:
    """A part whose turn comes after an hour is not refused for that."""
    agent, attempt = await signing.running(SPEC)
    small, large = item(b"x"), wire.GrantItem("a" * 64, 8 * 2**30, "a" * 64)
    of_one, of_many = (await agent.ask(attempt, "results", "put", small, large)).grants
    for url in (of_one.url, *of_many.parts):
        seconds = int(parse_qs(urlsplit(url).query)["X-Amz-Expires"][0])
        assert seconds > 8 * 2**30 / 2**20


async def test_a_standing_right_adds_below_the_prefix(signing: Served) -> None:
    agent, attempt = await signing.running(SPEC)
    policy = (await agent.ask(attempt, "results", "standing")).post
    assert policy is not None
    assert policy["prefix"] == f"results/{attempt.job_id}/1"
    fields = policy["fields"] | {"key": policy["fields"]["key"].replace("${filename}", sha256(b"x"))}
    assert (await post(policy["url"], fields, b"x"))[0] in (200, 204)
    assert (await manifest(agent, attempt, "results", 1, entry("x", b"x"))).status == 200


async def test_late_uploads_of_a_done_job_are_refused(web: Served) -> None:
    agent, attempt = await web.running(SPEC)
    await web.store.jobs.end(attempt, Reason(Why.EXIT), web.services.clock.now(), outcome=Outcome.SUCCEEDED)
    assert (await manifest(agent, attempt, "results", 1)).status == 409
