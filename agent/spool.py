"""The log between supervisor and agent: segment files of raw bytes, each with an index of spans.

The supervisor writes, the agent reads, sends and deletes whole segments once they are safe elsewhere. What is not safe
yet is bounded: the writer waits, which slows the job, when the agent falls behind. Bytes are written before the span
that covers them, so a reader never sees half a chunk.
"""

from __future__ import annotations

import errno
import os
import re
import time
from typing import Callable, List, Tuple

from . import wire

SEGMENT = 8 * 2**20
_NAME = re.compile(r"^(\d{16})\.log$")
_SPAN = 21


def _segments(folder: str) -> List[int]:
    """Start offsets of the segments that are there, in order."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(int(match[1]) for match in map(_NAME.match, names) if match)


def _path(folder: str, start: int) -> str:
    return os.path.join(folder, f"{start:016d}.log")


class SpoolWriter:
    """`waiting` is called while the spool or the disk is full, so that the caller can go on looking after things."""

    def __init__(self, folder: str, limit: int, waiting: Callable[[str], None]) -> None:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self._folder = folder
        self._limit = limit
        self._waiting = waiting
        self.size = 0
        self._start = 0
        self._data = self._index = -1
        self._open()

    def append(self, stream: int, data: bytes) -> None:
        """Blocks while there is no room. Never loses a byte."""
        if not data:
            return
        if self.size - self._start >= SEGMENT:
            self._next()
        while self._outstanding() + len(data) > self._limit and self._outstanding() > 0:
            self._waiting("spool")
            if self._outstanding() <= self.size - self._start:
                self._next()
        self._write(self._data, data, self.size - self._start)
        span = wire.pack_spans([(self.size, len(data), stream, time.time())])
        self._write(self._index, span, os.fstat(self._index).st_size)
        self.size += len(data)

    def close(self) -> None:
        """On the disk before it returns."""
        for file in (self._data, self._index):
            os.fsync(file)
            os.close(file)

    def _outstanding(self) -> int:
        segments = _segments(self._folder)
        return self.size - (segments[0] if segments else self.size)

    def _next(self) -> None:
        if self.size == self._start:
            return
        os.close(self._data)
        os.close(self._index)
        self._start = self.size
        self._open()

    def _open(self) -> None:
        path = _path(self._folder, self._start)
        self._index = os.open(path + ".idx", os.O_RDWR | os.O_CREAT, 0o600)
        self._data = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def _write(self, file: int, data: bytes, at: int) -> None:
        view = memoryview(data)
        while view:
            try:
                done = os.pwrite(file, view, at)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                self._waiting("disk")
                continue
            view, at = view[done:], at + done


class SpoolReader:
    """Sees what a writer, living or dead, has left."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def start(self) -> int:
        """The first offset that is still here."""
        segments = _segments(self._folder)
        return segments[0] if segments else 0

    def size(self) -> int:
        """Bytes written so far, freed ones included."""
        for start in reversed(_segments(self._folder)):
            try:
                length = os.path.getsize(_path(self._folder, start) + ".idx")
            except FileNotFoundError:
                continue
            records = length // _SPAN
            if records:
                with open(_path(self._folder, start) + ".idx", "rb") as file:
                    file.seek((records - 1) * _SPAN)
                    ((offset, size, _, _),) = wire.unpack_spans(file.read(_SPAN))
                return offset + size
            return start
        return 0

    def read(self, offset: int, limit: int) -> Tuple[List[wire.LogSpan], bytes]:
        """Whole spans from `offset` (or the parts of them that are left), together about `limit` bytes; never none
        when there is something to read."""
        starts = [start for start in _segments(self._folder) if start <= offset]
        if not starts:
            return [], b""
        start = starts[-1]
        spans: List[wire.LogSpan] = []
        total = 0
        with open(_path(self._folder, start) + ".idx", "rb") as file:
            for at, length, stream, when in wire.unpack_spans(file.read()):
                if at + length <= offset:
                    continue
                first = max(at, offset)
                spans.append((first, at + length - first, stream, when))
                total += at + length - first
                if total >= limit:
                    break
        with open(_path(self._folder, start), "rb") as file:
            file.seek(offset - start)
            data = file.read(total)
        return _fit(spans, min(limit, len(data))), data[:limit]

    def free(self, upto: int) -> None:
        """Delete segments that lie wholly below `upto`, the last one excepted."""
        segments = _segments(self._folder)
        for start, following in zip(segments, segments[1:]):
            if following <= upto:
                os.unlink(_path(self._folder, start))
                os.unlink(_path(self._folder, start) + ".idx")


def _fit(spans: List[wire.LogSpan], size: int) -> List[wire.LogSpan]:
    fitted = []
    for offset, length, stream, when in spans:
        if size <= 0:
            break
        fitted.append((offset, min(length, size), stream, when))
        size -= length
    return fitted
