"""Short-lived rights to put or get objects of one attempt: signed where the store signs, else through the controller.

`results/JOB/NUMBER/` is one attempt's own; `checkpoints/JOB/` belongs to the job, named by content, and is written by
its live attempt; a workspace is read by its hash; inputs are read from where the job's spec says, and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from provisioner.domain.errors import Forbidden, InvalidRequest, NotFound, ObjectsError
from provisioner.domain.job import Attempt, Job
from provisioner.domain.ports import ObjectInfo, Objects, SignedRequest

from .services import Services
from .submit import SHA256

EXPIRES_S = 900.0  # of one small object's right; arbitrary
_SLOWEST = 2**20  # bytes a second of all that was granted together, for which rights last; arbitrary
STANDING_S = 4 * 3600.0  # arbitrary: longer than an agent goes on without its controller
ROUTE = "/agent/v1/objects/"
MOST_ITEMS = 10_000
MANIFEST = "manifest.json"
LEFT = "left.json"  # as `wire.LEFT` has it
_MULTIPART_FROM = 64 * 2**20  # bytes; arbitrary
_LARGEST_POST = 5 * 2**30  # bytes. Source: Amazon S3 API reference, POST object.
_HEADS_AT_ONCE = 16
_LIST_FROM = 32  # items from which one listing is cheaper than asking for each; arbitrary


@dataclass(frozen=True, slots=True)
class Item:
    key: str
    size: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Granted:
    """One request to make, field by field what `wire.Grant` says."""

    key: str
    url: str = ""
    method: str = "PUT"
    headers: Mapping[str, str] = field(default_factory=dict)
    exists: bool = False
    size: int = 0
    sha256: str = ""
    part_size: int = 0
    parts: Sequence[str] = ()
    upload_id: str = ""


def prefix_of(area: str, job_id: str, number: int) -> str:
    """Where an area's objects are, without the trailing slash. Raises: InvalidRequest."""
    if area == "results":
        return f"results/{job_id}/{number}"
    if area == "checkpoints":
        return f"checkpoints/{job_id}"
    raise InvalidRequest(f"area {area[:40]!r} cannot be written")


def checked_put_key(area: str, key: str) -> str:
    """A key below the area's prefix that an agent may write. Raises: InvalidRequest."""
    if area == "checkpoints" and not SHA256.fullmatch(key):
        raise InvalidRequest(f"a checkpoint's key is the sha256 of its bytes, not {key[:80]!r}")
    if key in (MANIFEST, LEFT) or not key or any(part in ("", ".", "..") for part in key.split("/")):
        raise InvalidRequest(f"not a key to write: {key[:80]!r}")
    return key


class Granting:
    """Answers for one store."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._objects = services.objects

    async def put(self, area: str, job: Job, attempt: Attempt, items: Sequence[Item]) -> list[Granted]:
        """What to send where, and what is there already."""
        prefix = prefix_of(area, job.id, attempt.number)
        there = await self._sizes(prefix, [checked_put_key(area, item.key) for item in items])
        granted: dict[str, Granted] = {}
        for item in items:
            if there.get(item.key) == item.size:
                granted[item.key] = Granted(item.key, exists=True, size=item.size, sha256=item.sha256)
            elif self._objects.signs and item.size >= _MULTIPART_FROM:
                upload = await self._objects.multipart(f"{prefix}/{item.key}", item.size, _lasting_s(items))
                if upload.upload_id:
                    granted[item.key] = Granted(
                        item.key, "", "PUT", size=item.size, sha256=item.sha256, part_size=upload.part_size,
                        parts=list(upload.urls), upload_id=upload.upload_id,
                    )  # fmt: skip
        whole = [item for item in items if item.key not in granted]
        requests = await self._to_write([f"{prefix}/{item.key}" for item in whole], _lasting_s(items))
        for item, one in zip(whole, requests, strict=True):
            granted[item.key] = Granted(item.key, one.url, one.method, one.headers, size=item.size, sha256=item.sha256)
        return [granted[item.key] for item in items]

    async def complete(self, area: str, job: Job, attempt: Attempt, uploads: Sequence[Mapping[str, Any]]) -> None:
        """Raises: InvalidRequest, ObjectsError."""
        prefix = prefix_of(area, job.id, attempt.number)
        for upload in uploads:
            key, upload_id, parts = upload.get("key"), upload.get("upload_id"), upload.get("parts")
            if not (isinstance(key, str) and isinstance(upload_id, str) and isinstance(parts, list)):
                raise InvalidRequest("an upload is {key, upload_id, parts}")
            full = f"{prefix}/{checked_put_key(area, key)}"
            await self._objects.complete(full, upload_id, [str(part) for part in parts])

    async def post(self, area: str, job: Job, attempt: Attempt) -> dict[str, Any] | None:
        """A standing right for the whole prefix, where the store has such a thing."""
        if not self._objects.signs:
            return None
        prefix = prefix_of(area, job.id, attempt.number)
        policy = await self._objects.post_policy(prefix, STANDING_S, _LARGEST_POST)
        return None if policy is None else {**policy, "prefix": prefix}

    async def get(self, area: str, job: Job, attempt: Attempt, items: Sequence[Item]) -> list[Granted]:
        if area == "inputs":
            return [await self._input(job, attempt, item.key) for item in items]
        keys = [readable(area, job, attempt, item.key) for item in items]
        infos = await self._heads(keys)
        urls = await _to_read(self._objects, keys, keys, _lasting_s([info for info in infos if info is not None]))
        found = []
        for key, info, url, item in zip(keys, infos, urls, items, strict=True):
            if info is None:
                raise NotFound(f"no object {key!r}")
            found.append(Granted(item.key, url, "GET", size=info.size, sha256=item.sha256))
        return found

    async def list(self, job: Job, attempt: Attempt, items: Sequence[Item]) -> list[Granted]:
        """Every object below each of the job's sources named in `items`; its key is its whole URL."""
        found: list[Granted] = []
        for item in items:
            index = _source(job, item.key, exact=True)
            store, key = await self._services.objects.foreign(item.key)
            with _opened(item.key):
                infos = await store.under(key)
                if not infos and key and (single := await store.head(key)) is not None:
                    infos = [single]
            if not infos:
                raise NotFound(f"nothing at {item.key}", hint="check the job's inputs")
            if len(found) + len(infos) > MOST_ITEMS:
                raise InvalidRequest(f"more than {MOST_ITEMS} objects below {item.key}", hint="name narrower inputs")
            below = [info.key.removeprefix(key).lstrip("/") for info in infos]
            ours = [_input_key(job, attempt, index, one) for one in below]
            addresses = await _to_read(store, [info.key for info in infos], ours, _lasting_s(infos))
            for info, one, address in zip(infos, below, addresses, strict=True):
                url = item.key.rstrip("/") + (f"/{one}" if one else "")
                found.append(Granted(url, address, "GET", size=info.size, sha256=info.version))
        return found

    async def _to_write(self, keys: Sequence[str], expires_s: float) -> Sequence[SignedRequest]:
        if not self._objects.signs:
            return [SignedRequest(ROUTE + quote(key), "PUT") for key in keys]
        return await self._objects.sign(keys, "PUT", expires_s)

    async def _input(self, job: Job, attempt: Attempt, url: str) -> Granted:
        """One object below one of the job's sources, by its whole URL."""
        index = _source(job, url, exact=False)
        store, key = await self._services.objects.foreign(url)
        with _opened(url):
            info = await store.head(key)
        if info is None:
            raise NotFound(f"nothing at {url}")
        below = url.removeprefix(job.spec.inputs[index].source.rstrip("/")).lstrip("/")
        (address,) = await _to_read(store, [key], [_input_key(job, attempt, index, below)], _lasting_s([info]))
        return Granted(url, address, "GET", size=info.size)

    async def _sizes(self, prefix: str, keys: Sequence[str]) -> dict[str, int]:
        """Of those that are there, by key below the prefix."""
        if len(keys) >= _LIST_FROM:
            return {info.key.removeprefix(f"{prefix}/"): info.size for info in await self._objects.under(prefix)}
        infos = await self._heads([f"{prefix}/{key}" for key in keys])
        return {key: info.size for key, info in zip(keys, infos, strict=True) if info is not None}

    async def _heads(self, keys: Sequence[str]) -> Sequence[ObjectInfo | None]:
        gate = asyncio.Semaphore(_HEADS_AT_ONCE)

        async def look(key: str) -> ObjectInfo | None:
            async with gate:
                return await self._objects.head(key)

        return await asyncio.gather(*(look(key) for key in keys))


def _lasting_s(items: Sequence[Item | ObjectInfo]) -> float:
    """For how long the rights to all of these are good: the last one must not have run out when its turn comes."""
    return EXPIRES_S + sum(item.size for item in items) / _SLOWEST


async def _to_read(store: Objects, keys: Sequence[str], ours: Sequence[str], expires_s: float) -> list[str]:
    """URLs to get objects from: signed, or through this controller under the keys that it knows them by."""
    if not store.signs:
        return [ROUTE + quote(key) for key in ours]
    return [signed.url for signed in await store.sign(keys, "GET", expires_s)]


def readable(area: str, job: Job, attempt: Attempt, key: str) -> str:
    """The full key behind a full or relative one, if this attempt may read it. Raises: Forbidden, InvalidRequest."""
    if area == "workspace":
        workspace = job.spec.workspace
        if workspace is None or key.removeprefix("blobs/") != workspace.sha256:
            raise Forbidden(f"{key[:80]!r} is not this job's workspace")
        return f"blobs/{workspace.sha256}"
    prefix = prefix_of(area, job.id, attempt.number)
    below = key.removeprefix(f"{prefix}/")
    if any(part in ("", ".", "..") for part in below.split("/")):
        raise Forbidden(f"{key[:80]!r} is not below {prefix}")
    return f"{prefix}/{below}"


async def input_behind(services: Services, job: Job, index: int, below: str) -> tuple[Objects, str]:
    """The store and key of an input that travels through this controller. Raises: NotFound, ObjectsError."""
    if not 0 <= index < len(job.spec.inputs) or any(part in ("", ".", "..") for part in below.split("/") if below):
        raise NotFound("no such input")
    store, key = await services.objects.foreign(job.spec.inputs[index].source)
    return store, f"{key}/{below}" if below else key


def _input_key(job: Job, attempt: Attempt, index: int, below: str) -> str:
    return f"inputs/{job.id}/{attempt.number}/{index}" + (f"/{below}" if below else "")


@contextlib.contextmanager
def _opened(url: str) -> Iterator[None]:
    """A store that says no to this controller will say it again. Raises: Forbidden."""
    try:
        yield
    except ObjectsError as error:
        if not error.denied:
            raise
        hint = "the controller's own credentials open inputs: see the page on inputs"
        raise Forbidden(f"cannot read {url}: {error.message}", hint=hint) from error


def _source(job: Job, url: str, *, exact: bool) -> int:
    """Which of the job's inputs `url` is, or lies below. Raises: Forbidden."""
    for index, one in enumerate(job.spec.inputs):
        source = one.source.rstrip("/")
        if url.rstrip("/") == source or (not exact and url.startswith(source + "/")):
            if any(part in (".", "..") for part in url.split("/")):
                break
            return index
    raise Forbidden(f"{url[:200]!r} is not among the job's inputs")
