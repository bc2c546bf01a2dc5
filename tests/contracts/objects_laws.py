"""The laws of `domain.ports.Objects`, one test each. An adapter inherits them with one fixture, `objects`.

`SigningLaws` are for stores that sign: what was signed is used with plain HTTP, as an agent would.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from provisioner.domain.errors import ObjectsError
from provisioner.domain.ports import ObjectInfo, Objects

BAD_KEYS = ("", "/a", "a/", "a//b", "..", "../a", "a/../b", "a/./b", ".part/x", "a\0b", "a\nb", "a\\b", "x" * 300)


async def read(objects: Objects, key: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in objects.get(key, start=start, end=end)])


async def chunks(data: bytes, size: int) -> AsyncIterator[bytes]:
    for first in range(0, len(data), size):
        yield data[first : first + size]


class ObjectsLaws:
    async def test_o1_a_put_whose_source_fails_shows_nothing(self, objects: Objects) -> None:
        async def broken() -> AsyncIterator[bytes]:
            yield b"x" * 2**20
            raise LookupError("the source broke")

        with pytest.raises(LookupError, match="the source broke"):
            await objects.put("o1/broken", broken())
        assert await objects.head("o1/broken") is None
        assert await objects.under("o1") == []

    async def test_o1_a_put_over_an_object_shows_the_old_or_the_new_one(self, objects: Objects) -> None:
        await objects.put("o1/over", b"old" * 100_000)
        seen: set[bytes] = set()

        async def look() -> None:
            for _ in range(20):
                seen.add(hashlib.sha256(await read(objects, "o1/over")).digest())

        await asyncio.gather(look(), objects.put("o1/over", b"new" * 100_000))
        allowed = {hashlib.sha256(word * 100_000).digest() for word in (b"old", b"new")}
        assert seen <= allowed
        assert await read(objects, "o1/over") == b"new" * 100_000

    @pytest.mark.parametrize("size", [0, 1, 65_536, 5 * 2**20 + 17])
    async def test_o2_bytes_come_back_as_they_went(self, objects: Objects, size: int) -> None:
        data = os.urandom(size)
        assert await objects.put(f"o2/bytes-{size}", data) == size
        assert await read(objects, f"o2/bytes-{size}") == data
        assert await objects.head(f"o2/bytes-{size}") == ObjectInfo(f"o2/bytes-{size}", size)

    async def test_o2_a_stream_comes_back_as_it_went(self, objects: Objects) -> None:
        data = os.urandom(18 * 2**20 + 3)
        assert await objects.put("o2/stream", chunks(data, 60_000)) == len(data)
        assert await read(objects, "o2/stream") == data

    async def test_o2_a_file_comes_back_as_it_was_and_stays(self, objects: Objects, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.write_bytes(os.urandom(17 * 2**20))
        assert await objects.put("o2/file", source) == 17 * 2**20
        assert await read(objects, "o2/file") == source.read_bytes()

    @pytest.mark.parametrize(("start", "end"), [(0, 5), (3, 9), (7, None), (9, 100), (10, None), (20, 30), (4, 4)])
    async def test_o2_a_range_is_that_part_of_it(self, objects: Objects, start: int, end: int | None) -> None:
        await objects.put("o2/range", b"0123456789")
        assert await read(objects, "o2/range", start, end) == b"0123456789"[start:end]

    @pytest.mark.parametrize("name", ["with space", "ünï-cødé", "per%20cent", "a+b=c&d", "#hash?", "[x]*~'"])
    async def test_o2_odd_names_are_names(self, objects: Objects, name: str) -> None:
        await objects.put(f"o2odd/{name}", name.encode())
        assert await read(objects, f"o2odd/{name}") == name.encode()
        assert ObjectInfo(f"o2odd/{name}", len(name.encode())) in await objects.under("o2odd")

    async def test_o6_a_version_changes_with_the_bytes_and_not_by_itself(self, objects: Objects) -> None:
        await objects.put("o6/one", b"before")
        (before,) = await objects.under("o6")
        assert before.version
        assert before.version == getattr(await objects.head("o6/one"), "version", None)
        await objects.put("o6/one", b"behind")
        (after,) = await objects.under("o6")
        assert after.version
        assert after.version != before.version

    async def test_a_listing_shows_what_is_below_a_folder_and_nothing_beside_it(self, objects: Objects) -> None:
        for key in ("list/a/1", "list/a/b/2", "list/ab/3", "list/z"):
            await objects.put(key, b"x")
        assert [info.key for info in await objects.under("list/a")] == ["list/a/1", "list/a/b/2"]
        assert [info.key for info in await objects.under("list/")] == ["list/a/1", "list/a/b/2", "list/ab/3", "list/z"]
        assert await objects.under("list/nothing") == []

    async def test_o3_deleting_what_is_absent_is_success(self, objects: Objects) -> None:
        await objects.put("o3/there", b"x")
        await objects.delete(["o3/there", "o3/never"])
        await objects.delete(["o3/there"])
        await objects.delete([])
        assert await objects.head("o3/there") is None

    async def test_o4_an_absent_object_is_said_to_be_missing(self, objects: Objects) -> None:
        with pytest.raises(ObjectsError) as raised:
            await read(objects, "o4/absent")
        assert raised.value.missing
        with pytest.raises(ObjectsError) as raised:
            await read(objects, "o4/absent", 5, 10)
        assert raised.value.missing
        assert await objects.head("o4/absent") is None

    async def test_o4_a_source_file_that_is_not_there_is_our_error(self, objects: Objects, tmp_path: Path) -> None:
        with pytest.raises(ObjectsError):
            await objects.put("o4/file", tmp_path / "absent")

    @pytest.mark.parametrize("key", BAD_KEYS)
    async def test_o5_a_key_cannot_leave_the_prefix(self, objects: Objects, key: str) -> None:
        with pytest.raises(ObjectsError):
            await objects.put(key, b"x")
        with pytest.raises(ObjectsError):
            await read(objects, key)
        with pytest.raises(ObjectsError):
            await objects.head(key)
        with pytest.raises(ObjectsError):
            await objects.delete([key])


class SigningLaws:
    async def test_it_says_that_it_signs(self, objects: Objects) -> None:
        assert objects.signs

    async def test_a_signed_put_then_get_moves_the_bytes(self, objects: Objects) -> None:
        (put,) = await objects.sign(["sign/one"], "PUT", 60)
        assert (await send(put.url, put.method, b"hello", put.headers))[0] == 200
        assert await read(objects, "sign/one") == b"hello"
        (get,) = await objects.sign(["sign/one"], "GET", 60)
        assert await send(get.url, get.method, None, get.headers) == (200, b"hello", None)

    async def test_many_are_signed_at_once_in_order_whatever_their_names(self, objects: Objects) -> None:
        keys = ["many/plain", "many/two words", "many/a+b&c=d%20e", "many/größe", "many/deep/er#1?x"]
        puts = await objects.sign(keys, "PUT", 60)
        for key, put in zip(keys, puts, strict=True):
            assert (await send(put.url, put.method, key.encode(), put.headers))[0] == 200
            assert await read(objects, key) == key.encode()
        gets = await objects.sign(keys, "GET", 60)
        assert [(await send(get.url, get.method, None, get.headers))[1] for get in gets] == [k.encode() for k in keys]
        assert await objects.sign([], "GET", 60) == []

    async def test_a_multipart_upload_shows_once_it_is_completed(self, objects: Objects) -> None:
        data = os.urandom(17 * 2**20)
        upload = await objects.multipart("sign/many", len(data), 60)
        assert len(upload.urls) == 2
        etags = []
        for number, url in enumerate(upload.urls):
            part = data[number * upload.part_size : (number + 1) * upload.part_size]
            status, _, etag = await send(url, "PUT", part)
            assert status == 200
            etags.append(etag or "")
        assert await objects.head("sign/many") is None
        await objects.complete("sign/many", upload.upload_id, etags)
        await objects.complete("sign/many", upload.upload_id, etags)
        assert await read(objects, "sign/many") == data

    async def test_completing_an_unknown_upload_is_our_error(self, objects: Objects) -> None:
        with pytest.raises(ObjectsError):
            await objects.complete("sign/unknown", "no-such-upload", ["x"])

    async def test_a_policy_lets_objects_in_below_its_prefix(self, objects: Objects) -> None:
        policy = await objects.post_policy("post/here", 60, 1000)
        assert policy is not None
        below = (await objects.sign(["post/here/inner/x"], "GET", 60))[0].url
        fields = dict(policy["fields"]) | {"key": policy["fields"]["key"].replace("${filename}", "inner/x")}
        assert (await post(policy["url"], fields, b"posted"))[0] in (200, 201, 204)
        assert await read(objects, "post/here/inner/x") == b"posted"
        assert (await send(below, "GET", None))[1] == b"posted"


class EnforcingLaws:
    """What only a server that checks signatures can show."""

    async def test_a_signed_url_opens_no_other_key(self, objects: Objects) -> None:
        await objects.put("enforce/secret", b"s")
        (signed,) = await objects.sign(["enforce/mine"], "GET", 60)
        assert (await send(signed.url.replace("enforce/mine", "enforce/secret"), "GET", None))[0] == 403

    async def test_a_signed_get_cannot_put(self, objects: Objects) -> None:
        (signed,) = await objects.sign(["enforce/get"], "GET", 60)
        assert (await send(signed.url, "PUT", b"x"))[0] == 403

    async def test_a_policy_lets_nothing_in_outside_its_prefix_or_too_large(self, objects: Objects) -> None:
        policy = await objects.post_policy("post/strict", 60, 10)
        assert policy is not None
        inside = policy["fields"]["key"].replace("${filename}", "x")
        outside = dict(policy["fields"]) | {"key": inside.replace("post/strict", "post/other")}
        assert (await post(policy["url"], outside, b"x"))[0] == 403
        assert (await post(policy["url"], dict(policy["fields"]) | {"key": inside}, b"x" * 11))[0] >= 400


async def send(
    url: str, method: str, body: bytes | None, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes, str | None]:
    """Status, body and ETag."""

    def call() -> tuple[int, bytes, str | None]:
        typed = {"Content-Type": "application/octet-stream"} if body is not None else {}
        request = urllib.request.Request(url, body, typed | dict(headers or {}), method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read(), answer.headers["ETag"] if method == "PUT" else None
        except urllib.error.HTTPError as error:
            return error.code, error.read(), None

    return await asyncio.to_thread(call)


async def post(url: str, fields: Mapping[str, str], data: bytes) -> tuple[int, bytes]:
    """A form upload, as a browser would send it."""
    edge = "edge-of-a-part"
    parts = [f'--{edge}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()]
    head = "".join(parts) + f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    body = head.encode() + data + f"\r\n--{edge}--\r\n".encode()

    def call() -> tuple[int, bytes]:
        where = urlsplit(url)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=20)
        connection.request("POST", where.path, body, {"Content-Type": f"multipart/form-data; boundary={edge}"})
        answer = connection.getresponse()
        return answer.status, answer.read()

    return await asyncio.to_thread(call)
