"""S3 keeps the laws of Objects: against moto's server in every run, against Ceph's gateway under `-m system`."""

from __future__ import annotations

import asyncio
import urllib.request
import uuid
from collections.abc import Iterator

import pytest

from provisioner.domain.errors import ObjectsError
from provisioner.domain.ports import Objects
from provisioner.objects import open_objects
from tests.fakes import s3

from .objects_laws import EnforcingLaws, ObjectsLaws, SigningLaws, read


@pytest.fixture(scope="module")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.Server]:
    with s3.moto(tmp_path_factory.mktemp("moto")) as server, server.in_environment():
        server.make_bucket("laws")
        yield server


@pytest.fixture(scope="module")
def ceph_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.Server]:
    if reason := s3.ceph_missing():
        pytest.skip(reason)
    with s3.ceph(tmp_path_factory.mktemp("ceph")) as server, server.in_environment():
        server.make_bucket("laws")
        yield server


class TestMoto(ObjectsLaws, SigningLaws):
    @pytest.fixture
    def objects(self, moto_server: s3.Server) -> Objects:
        return open_objects(f"s3://laws/{uuid.uuid4().hex}")

    async def test_o4_no_bucket_is_our_error(self, moto_server: s3.Server) -> None:
        with pytest.raises(ObjectsError):
            await open_objects("s3://no-such-bucket").put("a", b"x")

    async def test_another_prefix_is_reached_by_url(self, objects: Objects) -> None:
        await objects.put("data/deep/file", b"input")
        other, key = await objects.foreign(f"{objects.url}/data")
        (found,) = await other.under(key)
        assert found.key == f"{key}/deep/file"
        assert await read(other, found.key) == b"input"
        (signed,) = await other.sign([found.key], "GET", 60)
        assert "deep/file" in signed.url

    @pytest.mark.parametrize(
        ("name", "kind"), [("a.png", "image/png"), ("b.svg", "image/svg+xml"), ("c.webp", "image/webp")]
    )
    async def test_what_is_published_says_what_it_is(self, objects: Objects, name: str, kind: str) -> None:
        """Forges' proxies show nothing but images."""
        await objects.put(f"published/2026-11-21/{name}", b"bytes")
        (signed,) = await objects.sign([f"published/2026-11-21/{name}"], "GET", 60)
        assert await asyncio.to_thread(_content_type, signed.url) == kind


def _content_type(url: str) -> str:
    with urllib.request.urlopen(url) as answer:
        return str(answer.headers["Content-Type"])


@pytest.mark.system
@pytest.mark.timeout(300)
class TestCeph(ObjectsLaws, SigningLaws, EnforcingLaws):
    @pytest.fixture
    def objects(self, ceph_server: s3.Server) -> Objects:
        return open_objects(f"s3://laws/{uuid.uuid4().hex}")
