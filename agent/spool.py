"""The log between supervisor and agent: segment files of raw bytes, each with an index of spans.

The supervisor writes, the agent reads, sends and deletes whole segments once they are safe elsewhere. What is not safe
yet is bounded, indexes included: the writer waits, which slows the job, when the agent falls behind. Bytes are written
before the span that covers them, so a reader never sees half a chunk.
"""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Callable
from typing import Any

SEGMENT = 8 * 2**20
_SUFFIX = ".log"
_INDEX = ".idx"
_SPAN = struct.Struct("<QIBd")  # as wire.pack_spans has it; to import wire would cost each attempt 20 ms at its start
_BLOCK = 4096  # spans that are read at once
LogSpan = tuple[int, int, int, float]


class SpoolWriter:
    """`waiting` is called while the spool or the disk is full, so that the caller can go on looking after things."""

    def __init__(self, folder: str, limit: int, waiting: Callable[[str], None]) -> None:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self._folder = folder
        self._limit = limit
        self._waiting = waiting
        self.size = 0
        self._start = 0
        self._taken: dict[int, int] = {}
        self._data = self._index = -1
        self._open()

    def append(self, stream: int, data: bytes) -> None:
        """Blocks while there is no room. Never loses a byte. Raises: OSError when the disk fails for good."""
        if not data:
            return
        need = len(data) + _SPAN.size
        if self._taken[self._start] >= SEGMENT:
            self._next()
        while not self._room(need):
            self._waiting("spool")
            if not self._room(need) and len(self._taken) == 1:
                self._next()
        taken = self._taken[self._start]
        at = self.size - self._start
        self._write(self._data, data, at)
        span = _SPAN.pack(self.size, len(data), stream, time.time())
        self._write(self._index, span, taken - at)
        self._taken[self._start] = taken + need
        self.size += len(data)

    def close(self) -> None:
        """On the disk before it returns."""
        for file in (self._data, self._index):
            os.fsync(file)
            os.close(file)

    def _room(self, need: int) -> bool:
        """The disk is looked at only when memory says that it is full."""
        if sum(self._taken.values()) + need <= self._limit:
            return True
        there = set(_segments(self._folder))
        self._taken = {start: size for start, size in self._taken.items() if start in there or start == self._start}
        taken = sum(self._taken.values())
        return taken == 0 or taken + need <= self._limit

    def _next(self) -> None:
        if self.size == self._start:
            return
        os.close(self._data)
        os.close(self._index)
        self._start = self.size
        self._open()

    def _open(self) -> None:
        path = _path(self._folder, self._start)
        self._index = self._patiently(os.open, path + _INDEX, os.O_RDWR | os.O_CREAT, 0o600)
        self._data = self._patiently(os.open, path, os.O_RDWR | os.O_CREAT, 0o600)
        self._taken[self._start] = 0

    def _write(self, file: int, data: bytes, at: int) -> None:
        view = memoryview(data)
        while view:
            done = self._patiently(os.pwrite, file, view, at)
            view, at = view[done:], at + done

    def _patiently(self, act: Callable[..., int], *words: Any) -> int:
        while True:
            try:
                return act(*words)
            except OSError as error:
                if not full(error):
                    raise
                self._waiting("disk")


class SpoolReader:
    """Sees what a writer, living or dead, has left."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def start(self) -> int:
        """The first offset that is still here."""
        segments = _segments(self.folder)
        return segments[0] if segments else 0

    def size(self) -> int:
        """Bytes written so far, freed ones included."""
        for start in reversed(_segments(self.folder)):
            try:
                with _Index(_path(self.folder, start) + _INDEX) as index:
                    return index.end() if len(index) else start
            except FileNotFoundError:
                continue
        return 0

    def read(self, offset: int, limit: int) -> tuple[list[LogSpan], bytes]:
        """Spans from `offset`, the first and the last cut to fit, together at most `limit` bytes; none only when there
        is nothing to read. A call never goes beyond its segment."""
        starts = [start for start in _segments(self.folder) if start <= offset]
        if not starts:
            return [], b""
        path = _path(self.folder, starts[-1])
        with _Index(path + _INDEX) as index:
            spans = index.covering(offset, limit)
        if not spans:
            return [], b""
        with open(path, "rb", buffering=0) as file:
            file.seek(offset - starts[-1])
            data = file.read(spans[-1][0] + spans[-1][1] - offset)
        return spans, data

    def free(self, upto: int) -> None:
        """Delete segments that lie wholly below `upto`, the last one excepted."""
        segments = _segments(self.folder)
        for start, following in zip(segments, segments[1:]):
            if following <= upto:
                os.unlink(_path(self.folder, start))
                os.unlink(_path(self.folder, start) + _INDEX)


class _Index:
    """One segment's spans, in the order of their offsets. A torn last one does not count."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDONLY)
        self._count = os.fstat(self._file).st_size // _SPAN.size

    def __enter__(self) -> _Index:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def __len__(self) -> int:
        return self._count

    def end(self) -> int:
        """The offset behind the last span."""
        offset, length, _, _ = self._some(self._count - 1, 1)[0]
        return offset + length

    def covering(self, offset: int, limit: int) -> list[LogSpan]:
        spans: list[LogSpan] = []
        at, left = self._place(offset), limit
        while at < self._count and left > 0:
            for begin, length, stream, when in self._some(at, _BLOCK):
                first = max(begin, offset)
                taken = min(begin + length - first, left)
                if taken > 0:
                    spans.append((first, taken, stream, when))
                left -= taken
                if left <= 0:
                    break
            at += _BLOCK
        return spans

    def _place(self, offset: int) -> int:
        """The last span that begins at or before `offset`: an index may hold hundreds of thousands."""
        low, high = 0, self._count
        while high - low > 1:
            middle = (low + high) // 2
            if self._some(middle, 1)[0][0] <= offset:
                low = middle
            else:
                high = middle
        return low

    def _some(self, first: int, count: int) -> list[LogSpan]:
        count = min(count, self._count - first)
        return list(_SPAN.iter_unpack(os.pread(self._file, count * _SPAN.size, first * _SPAN.size)))


def full(error: OSError) -> bool:
    """Whether it passes when somebody makes room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _segments(folder: str) -> list[int]:
    """Start offsets of the segments that are there, in order."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(int(name[: -len(_SUFFIX)]) for name in names if name.endswith(_SUFFIX))


def _path(folder: str, start: int) -> str:
    return os.path.join(folder, f"{start:016d}{_SUFFIX}")
