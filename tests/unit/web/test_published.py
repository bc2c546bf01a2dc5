"""Images that anybody sees who has their address, and nobody else."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest

from provisioner.app.retention import Retention
from provisioner.domain.policy import Policy

from .served import Answer, Http, Served

PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)
DIGEST = hashlib.sha256(PNG).hexdigest()
PUBLIC = "https://runner.example.org"


async def put(web: Served, name: str = "plot.png", body: bytes = PNG, digest: str = DIGEST) -> Answer:
    return await web.control.call("PUT", f"/api/v1/published/{digest}/{name}", body)


@pytest.fixture
async def shown(web: Served) -> Served:
    """A served controller that the world can reach."""
    for listener in web.listeners:
        await listener.close()
    web.services = replace(web.services, public_url=PUBLIC)
    await web.start()
    return web


async def test_an_image_is_seen_by_whoever_has_the_address(shown: Served) -> None:
    put_there = await put(shown)
    assert put_there.status == 201
    where = urlsplit(put_there.json["url"])
    assert f"{where.scheme}://{where.netloc}" == PUBLIC
    found = await Http(shown.port).call("GET", f"{where.path}?{where.query}")
    assert (found.status, found.body, found.headers["content-type"]) == (200, PNG, "image/png")
    assert "sandbox" in found.headers["content-security-policy"]


async def test_without_its_key_nothing_is_told_apart_from_what_is_not_there(shown: Served) -> None:
    where = urlsplit((await put(shown)).json["url"])
    other = where.path.replace("plot.png", "other.png")
    for path in (where.path, f"{where.path}?key=x", f"{other}?{where.query}", f"{where.path}x?{where.query}"):
        found = await Http(shown.port).call("GET", path)
        assert (found.status, found.message) == (404, "no such image")


async def test_only_images_are_taken_and_only_whole(shown: Served) -> None:
    assert (await put(shown, "page.html")).message == "'page.html' is no image"
    assert (await put(shown, body=b"other")).status == 400
    assert (await put(shown, digest="x")).message == "not a sha256 in hexadecimal"
    assert (await put(shown, body=bytes(17 * 2**20))).status == 413


async def test_a_viewer_may_not_publish(shown: Served) -> None:
    viewer = await shown.person("viewer")
    put_there = await viewer.call("PUT", f"/api/v1/published/{DIGEST}/a.png", PNG)
    assert put_there.status == 403


async def test_where_nobody_could_open_it_nothing_is_published(web: Served) -> None:
    refused = await put(web)
    assert (refused.status, refused.kind) == (409, "Conflict")
    assert "signs no links, and it has no public_url" in refused.message
    assert await web.services.objects.under("published/") == []


async def test_odd_names_become_plain_ones(shown: Served) -> None:
    put_there = await put(shown, "a%20%3Cb%3E..png")
    assert put_there.json["url"].partition("?")[0].endswith("/a-b-..png")


async def test_old_images_are_dropped_with_other_objects(web: Served) -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    keep_s = Policy().objects_keep_s
    old = (now - timedelta(seconds=keep_s) - timedelta(days=1)).date().isoformat()
    for day in (old, "2026-11-20"):
        await web.services.objects.put(f"published/{day}/{DIGEST}/a.png", PNG)
    retention = Retention(web.services.store, web.services.logs, web.services.objects, Policy())
    await retention.run_once(now)
    kept = [found.key for found in await web.services.objects.under("published/")]
    assert kept == [f"published/2026-11-20/{DIGEST}/a.png"]
