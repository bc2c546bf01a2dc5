"""What a job reads before it starts: objects listed and granted by the controller, fetched several at once, kept.

An object is kept on the machine under its URL and fingerprint, and copied from there into each workspace that wants it.
A fetch that broke off goes on where it was (`.part` files and Range). What is in the cache is never handed to a job
itself, only copies.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from typing import Any, Callable, Optional

from . import wire
from .config import Home
from .http1 import Connection
from .link import Backoff, Link, Refused, Unreachable
from .upload import parallel

_AT_ONCE = 8
_BATCH = 200
_TRIES = 5


class InputError(ValueError):
    """What was ordered cannot be had, and will not be by trying again."""


class Cancelled(Exception):
    """The attempt is not wanted any more."""


class Fetcher:
    """Objects of one attempt, through the machine's cache. `cancelled` is asked between blocks."""

    def __init__(self, link: Link, home: Home, job: str, number: int, cancelled: Callable[[], bool]) -> None:
        self._link = link
        self._cache = home.cache
        self._job = job
        self._number = number
        self._cancelled = cancelled

    def ask(self, area: str, op: str, items: list[wire.GrantItem]) -> list[wire.Grant]:
        ask = wire.GrantAsk(self._job, self._number, area, op, items)
        return self._link.call("/agent/v1/grants", ask, wire.Grants).grants

    def cached(self, area: str, item: wire.GrantItem, grant: Optional[wire.Grant] = None) -> str:
        """The path of a whole object in the cache, fetched if it is not there. Raises: InputError, Unreachable,
        Refused."""
        name = hashlib.sha256(f"{item.key}\0{item.size}\0{item.sha256}".encode()).hexdigest()
        path = os.path.join(self._cache, area, name)
        if item.sha256 and os.path.exists(path):
            os.utime(path)
            return path
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        if not item.sha256 and os.path.exists(f"{path}.part"):
            os.unlink(f"{path}.part")  # nothing tells whether it is the beginning of what is there now
        backoff = Backoff(0.2, 5.0)
        for left in range(_TRIES - 1, -1, -1):
            try:
                grant = grant or _only(self.ask(area, "get", [item]), item.key)
                self._fetch(grant, path)
                return path
            except (Unreachable, Refused) as error:
                refused_us = isinstance(error, Refused) and grant is None  # else a store did, and the right may be over
                if refused_us or not left:
                    raise
                grant = None
                time.sleep(backoff.next())
        raise Unreachable(item.key)

    def _fetch(self, grant: wire.Grant, path: str) -> None:
        part = f"{path}.part"
        have = os.path.getsize(part) if os.path.exists(part) else 0
        headers = {**grant.headers, **({"range": f"bytes={have}-"} if have else {})}
        if not (have and have == grant.size):
            with self._link.exchange("GET", grant.url, headers) as (head, connection):
                self._store(connection, part, "ab" if head.status == 206 else "wb")
        size = os.path.getsize(part)
        if grant.size and size != grant.size:
            if size > grant.size:
                os.unlink(part)
            raise Unreachable(f"{grant.key}: {size} of {grant.size} bytes came")
        os.replace(part, path)

    def _store(self, connection: Connection, part: str, mode: str) -> None:
        with open(part, mode) as file:
            for block in connection.blocks():
                if self._cancelled():
                    raise Cancelled
                file.write(block)


def fetch(fetcher: Fetcher, order: wire.Order, workspace: str) -> list[dict[str, Any]]:
    """All inputs into the workspace; what each of them was, for the record. Raises: InputError, Unreachable."""
    return [_one(fetcher, one, workspace) for one in order.inputs]


def _one(fetcher: Fetcher, ordered: wire.InputOrder, workspace: str) -> dict[str, Any]:
    listed = fetcher.ask("inputs", "list", [wire.GrantItem(ordered.source)])
    if not listed:
        raise InputError(f"input {ordered.source}: nothing there")
    prints: dict[str, str] = {}

    def work(pair: tuple[wire.Grant, Optional[wire.Grant]]) -> None:
        one, grant = pair
        path = fetcher.cached("inputs", wire.GrantItem(one.key, one.size, one.sha256), grant)
        target = inside(workspace, destination(ordered, one.key))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        prints[one.key] = copy_hashed(path, target)

    for start in range(0, len(listed), _BATCH):
        batch = listed[start : start + _BATCH]
        parallel([(one, one if one.url else None) for one in batch], work, _AT_ONCE)
    digest = hashlib.sha256("".join(f"{key}\0{prints[key]}\n" for key in sorted(prints)).encode()).hexdigest()
    size = sum(one.size for one in listed)
    return {"source": ordered.source, "to": ordered.to, "files": len(listed), "bytes": size, "sha256": digest}


def destination(ordered: wire.InputOrder, key: str) -> str:
    """Where one object goes, relative to the workspace: below `to`, or `to` itself for a single object."""
    source = ordered.source.rstrip("/")
    if key == source:
        return ordered.to + source.rpartition("/")[2] if ordered.to.endswith("/") else ordered.to
    rest = key[len(source) + 1 :] if key.startswith(source + "/") else key.rpartition("/")[2]
    return f"{ordered.to.rstrip('/')}/{rest}"


def inside(root: str, path: str) -> str:
    """The whole path. Raises: InputError when it, or a link on the way to it, leads out of `root`."""
    real = os.path.realpath(root)
    full = os.path.normpath(os.path.join(real, path))
    if os.path.isabs(path) or not os.path.realpath(full).startswith(real + os.sep):
        raise InputError(f"{path!r} lies outside the workspace")
    return full


def copy_hashed(path: str, target: str) -> str:
    """Copy a file, replacing what is there; the sha256 of what was copied."""
    part = f"{target}.{os.getpid()}.part"
    digest = hashlib.sha256()
    with open(path, "rb") as source, open(part, "wb") as copy:
        while block := source.read(2**20):
            digest.update(block)
            copy.write(block)
    os.replace(part, target)
    return digest.hexdigest()


def make_room(home: Home, keep_bytes: int) -> None:
    """Delete what was used longest ago from the cache while it is larger than `keep_bytes`."""
    found = []
    for folder, _, names in os.walk(home.cache):
        for name in names:
            about = os.stat(os.path.join(folder, name))
            found.append((about.st_mtime, about.st_size, os.path.join(folder, name)))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= keep_bytes:
            return
        os.unlink(path)
        total -= size


def free_bytes(home: Home) -> int:
    return shutil.disk_usage(home.path).free


def _only(grants: list[wire.Grant], key: str) -> wire.Grant:
    if len(grants) != 1 or not grants[0].url:
        raise InputError(f"{key}: no right to read it was given")
    return grants[0]
