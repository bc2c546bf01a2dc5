"""Logs on this controller's own disk: one file of raw bytes and one of spans for each attempt, appended by offset.

A span is written after its bytes, and an append is answered as safe only after both are on the disk (`fdatasync`,
shared by all appends that wait for it). After a crash the two are cut to what both agree on, and no byte that was
answered as safe goes with that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from provisioner.domain.ports import LogSpan

from . import log_index
from .log_index import cut

MOST_OPEN = 256  # logs, of two files each; arbitrary


@dataclass
class _Log:
    """One attempt's open files. `size` is what is stored, `safe` what survives power loss, `records` the index's."""

    data: int
    index: int
    size: int
    safe: int
    records: int
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    syncing: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        return not self.lock.locked() and (self.syncing is None or self.syncing.done()) and self.safe == self.size


class FileLogs:
    """The Logs port over a folder. `most_open`: so many logs are kept open, those that were used last."""

    def __init__(self, folder: Path, most_open: int = MOST_OPEN) -> None:
        self._folder = folder
        self._most_open = most_open
        self._open: dict[tuple[str, int], _Log] = {}
        self._grown: dict[tuple[str, int], asyncio.Event] = {}

    async def append(
        self, job_id: str, number: int, offset: int, spans: Sequence[LogSpan], data: bytes | memoryview
    ) -> tuple[int, int]:
        log = await self._log(job_id, number)
        async with log.lock:
            skip = log.size - offset
            if skip < 0 or skip >= len(data):
                return log.size, log.safe
            fresh = cut(spans, log.size, offset + len(data))
            await asyncio.to_thread(_write, log, fresh, memoryview(data)[skip:])
            log.size = offset + len(data)
        self._wake((job_id, number))
        await self._sync(log)
        return log.size, log.safe

    async def offsets(self, job_id: str, number: int) -> tuple[int, int]:
        """What is only looked at is not kept open."""
        log = self._open.get((job_id, number))
        if log is None:
            path = self._path(job_id, number)
            if not path.exists():
                return 0, 0
            log = _recover(path)
            _close(log)
        return log.size, log.safe

    async def read(self, job_id: str, number: int, offset: int = 0, limit: int = 2**20) -> tuple[list[LogSpan], bytes]:
        size, _ = await self.offsets(job_id, number)
        end = min(size, offset + limit)
        if offset >= end:
            return [], b""
        return await asyncio.to_thread(_read, self._path(job_id, number), offset, end)

    async def wait(self, job_id: str, number: int, beyond: int, timeout_s: float) -> int:
        key = (job_id, number)
        size, _ = await self.offsets(job_id, number)
        if size > beyond or timeout_s <= 0:
            return size
        grown = self._grown.setdefault(key, asyncio.Event())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(grown.wait(), timeout_s)
        size, _ = await self.offsets(job_id, number)
        return size

    async def rest(self, job_id: str, number: int) -> None:
        key = (job_id, number)
        if key in self._open and self._open[key].idle:
            _close(self._open.pop(key))

    async def delete(self, job_id: str, number: int) -> None:
        log = self._open.pop((job_id, number), None)
        if log is not None:
            _close(log)
        path = self._path(job_id, number)
        path.unlink(missing_ok=True)
        for other in (".idx", ".new"):
            path.with_suffix(other).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()

    def _path(self, job_id: str, number: int) -> Path:
        if "/" in job_id or job_id.startswith("."):
            raise ValueError(f"not a job id: {job_id!r}")
        return self._folder / job_id / f"{number}.log"

    async def _log(self, job_id: str, number: int) -> _Log:
        key = (job_id, number)
        log = self._open.pop(key, None)
        if log is None:
            if len(self._open) >= self._most_open:
                self._close_one()
            log = _recover(self._path(job_id, number))
        self._open[key] = log
        return log

    def _close_one(self) -> None:
        """The one that was used longest ago."""
        for key, log in self._open.items():
            if log.idle:
                _close(self._open.pop(key))
                return

    def _wake(self, key: tuple[str, int]) -> None:
        if grown := self._grown.pop(key, None):
            grown.set()

    async def _sync(self, log: _Log) -> None:
        """Until what is stored now is safe; whoever comes while a sync runs shares the next one."""
        wanted = log.size
        while log.safe < wanted:
            if log.syncing is None or log.syncing.done():
                log.syncing = asyncio.create_task(self._sync_once(log))
            await asyncio.shield(log.syncing)

    async def _sync_once(self, log: _Log) -> None:
        size = log.size
        await asyncio.to_thread(_sync_files, log)
        log.safe = max(log.safe, size)


def _write(log: _Log, spans: Sequence[LogSpan], data: memoryview) -> None:
    """Raises: OSError, with nothing counted, when the disk is full."""
    at = log.size
    while data:
        done = os.pwrite(log.data, data, at)
        data, at = data[done:], at + done
    log.records = log_index.write(log.index, log.records, spans)


def _sync_files(log: _Log) -> None:
    os.fdatasync(log.data)
    os.fdatasync(log.index)


def _close(log: _Log) -> None:
    os.close(log.data)
    os.close(log.index)


def _recover(path: Path) -> _Log:
    """Open, and cut data and index to what both agree on."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    data = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    index = -1
    try:
        index = os.open(path.with_suffix(".idx"), os.O_RDWR | os.O_CREAT, 0o600)
        stored = os.fstat(data).st_size
        if (size := log_index.ends_well(index, stored)) is None:
            index, size = _healed(path.with_suffix(".idx"), index, stored)
        os.ftruncate(data, size)
        return _Log(data, index, size, size, os.fstat(index).st_size // log_index.SIZE)
    except BaseException:
        os.close(data)
        if index >= 0:
            os.close(index)
        raise


def _healed(path: Path, index: int, stored: int) -> tuple[int, int]:
    """The index without its damage, open, and the bytes it covers. One that must be written anew is put in whole."""
    found = log_index.healed(path.read_bytes(), stored)
    if found.prefix:
        os.ftruncate(index, len(found.spans) * log_index.SIZE)
        return index, found.size
    made = path.with_suffix(".new")
    with made.open("wb") as file:
        file.write(log_index.packed(found.spans))
        file.flush()
        os.fsync(file.fileno())
    made.replace(path)
    anew = os.open(path, os.O_RDWR)
    os.close(index)
    return anew, found.size


def _read(path: Path, start: int, end: int) -> tuple[list[LogSpan], bytes]:
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(end - start)
    with path.with_suffix(".idx").open("rb") as file:
        records = os.fstat(file.fileno()).st_size // log_index.SIZE
        first = log_index.search(file.fileno(), records, start)
        spans = []
        file.seek(first * log_index.SIZE)
        while len(record := file.read(log_index.SIZE)) == log_index.SIZE:
            (span,) = log_index.unpacked(record)
            if span.offset >= end:
                break
            spans.append(span)
    return cut(spans, start, start + len(data)), data
