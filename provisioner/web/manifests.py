"""Manifests accepted: what an attempt's results or a job's checkpoint consist of, once all of it is there.

A manifest is refused unless its attempt is the job's newest and every file in it is in the store with its size. After
a newer checkpoint was accepted, all but the newest two are dropped, with the objects that only they needed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from weakref import WeakValueDictionary

from provisioner.domain.errors import InvalidRequest, ObjectsError
from provisioner.domain.store import ManifestRow

from .grants import LEFT, MANIFEST, checked_put_key, prefix_of
from .services import Services
from .submit import SHA256

KEPT_CHECKPOINTS = 2
_NAMED = 5


async def left_behind(services: Services, job_id: str, number: int) -> dict[str, Any] | None:
    """The manifest that an agent left beside its files because it did not reach a controller any more; None where there
    is none, or not all of its files are there."""
    prefix = prefix_of("results", job_id, number)
    objects = services.objects
    try:
        raw = b"".join([block async for block in objects.get(f"{prefix}/{LEFT}")])
        body: dict[str, Any] = json.loads(raw)
        for entry in body["files"]:
            _check_entry("results", entry)
        sizes = {info.key: info.size for info in await objects.under(prefix)}
        there = all(sizes.get(f"{prefix}/{one['key']}") == one["size"] for one in body["files"])
        whose = (body["job"], body["number"], body["area"])
    except (ObjectsError, InvalidRequest, ValueError, KeyError, TypeError, AttributeError):
        return None
    return body if there and whose == (job_id, number, "results") else None


class Manifests:
    """One writer a job, so that what is pruned is never what is being granted."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def turn(self, job_id: str) -> asyncio.Lock:
        """Held while the objects of a job's checkpoints are granted, accepted or pruned."""
        lock = self._locks.get(job_id)
        if lock is None:
            lock = self._locks[job_id] = asyncio.Lock()
        return lock

    async def accept(self, row: ManifestRow) -> bool:
        """False when a later or final one is there. Raises: StaleWrite, InvalidRequest, ObjectsError."""
        files = list(row.body["files"])
        for entry in files:
            _check_entry(row.area, entry)
        async with self.turn(row.job_id):
            await self._check_there(row, files)
            accepted = await self._services.store.records.put_manifest(row)
            if row.area == "results" and row.final:
                await self._publish(row.job_id, row.number)
            if row.area == "checkpoints" and accepted:
                await self._prune(row.job_id)
        return accepted

    async def _check_there(self, row: ManifestRow, files: list[Mapping[str, Any]]) -> None:
        if not files:
            return
        prefix = prefix_of(row.area, row.job_id, row.number)
        sizes = {info.key: info.size for info in await self._services.objects.under(prefix)}
        absent = [one["path"] for one in files if sizes.get(f"{prefix}/{one['key']}") != one["size"]]
        if absent:
            raise ObjectsError(
                f"{len(absent)} files of the manifest are not in the store: {', '.join(absent[:_NAMED])}",
                hint="send them again, then the manifest",
                missing=True,
            )

    async def _publish(self, job_id: str, number: int) -> None:
        """The final manifest beside its files, as the database has it: a message may have come twice."""
        for stored in await self._services.store.records.manifests(job_id, "results"):
            if stored.number == number and stored.final:
                key = f"{prefix_of('results', job_id, number)}/{MANIFEST}"
                await self._services.objects.put(key, json.dumps(dict(stored.body), indent=1).encode())

    async def _prune(self, job_id: str) -> None:
        """A crash on the way leaves objects that no manifest names; they go with the job's others."""
        records = self._services.store.records
        rows = await records.manifests(job_id, "checkpoints")
        old, kept = rows[:-KEPT_CHECKPOINTS], rows[-KEPT_CHECKPOINTS:]
        needed = {entry["key"] for row in kept for entry in row.body["files"]}
        unneeded = {entry["key"] for row in old for entry in row.body["files"]} - needed
        for row in old:
            await records.drop_manifest(row)
        if unneeded:
            await self._services.objects.delete([f"checkpoints/{job_id}/{key}" for key in sorted(unneeded)])


def _check_entry(area: str, entry: Mapping[str, Any]) -> None:
    """Raises: InvalidRequest; what pulls results trusts these paths."""
    path, parts = entry["path"], entry["path"].split("/")
    if not path or any(part in ("", ".", "..") for part in parts) or "\0" in path or len(path) > 4096:
        raise InvalidRequest(f"not a path in a workspace: {path[:200]!r}")
    if entry["size"] < 0 or not SHA256.fullmatch(entry["sha256"]) or not 0 <= entry["mode"] <= 0o7777:
        raise InvalidRequest(f"size, sha256 or mode of {path[:200]!r} cannot be right")
    checked_put_key(area, entry["key"])
