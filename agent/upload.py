"""Files to the object store by grants, and the manifest that makes them count.

Objects are named by the sha256 of their content, so sending one twice, or by two attempts, does no harm, and what the
store has already is not sent. What is sent is hashed again on its way, unless nobody is left who could write it: a file
that changed since it was looked at never gets under a name that is not its own. The manifest goes last. While the
controller is away a standing right will do for the files; only the controller can say that they are stored.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Callable, Optional, TypeVar

from . import wire
from .link import Link, Refused, Unreachable
from .say import say
from .standing import Standing

T = TypeVar("T")
Stamp = tuple[int, ...]
_BLOCK = 2**20
_AT_ONCE = 8
_BATCH, _BATCHES_AT_ONCE = 200, 2  # while one is sent the next one's grants are asked for
_TRIES = 3


class Changed(Exception):
    """The file is not what it was when it was hashed."""


@dataclass(frozen=True)
class Local:
    """A file to be taken: `path` as in the manifest; `open` gives a descriptor of what was looked at; `stamp` is what
    `stamp_of` said when it was hashed."""

    path: str
    size: int
    sha256: str
    mode: int
    open: Callable[[], int]
    stamp: Stamp = ()

    @property
    def entry(self) -> wire.FileEntry:
        return wire.FileEntry(self.path, self.size, self.sha256, self.sha256, self.mode)


def parallel(items: list[T], work: Callable[[T], None], threads: int = _AT_ONCE) -> None:
    """`work` on each item, some at once. Raises: the first error, after those under way have ended."""
    queue, lock = list(reversed(items)), threading.Lock()
    errors: list[BaseException] = []

    def worker() -> None:
        while not errors:
            with lock:
                if not queue:
                    return
                item = queue.pop()
            try:
                work(item)
            except BaseException as error:
                errors.append(error)

    if len(items) == 1:
        work(items[0])
        return
    crew = [threading.Thread(target=worker, daemon=True) for _ in range(min(threads, len(items)))]
    for one in crew:
        one.start()
    for one in crew:
        one.join()
    if errors:
        raise errors[0]


class Uploader:
    """Objects and manifests of one attempt in one area."""

    def __init__(self, link: Link, job: str, number: int, area: str, standing: Optional[Standing] = None) -> None:
        self._link = link
        self._standing = standing or Standing()
        self._job = job
        self._number = number
        self._area = area

    def stand(self) -> None:
        """Ask for the standing right, when it is time. Raises: Refused."""
        if self._standing.due:
            try:
                given = self._ask("standing", [])
                self._standing.take(given.post, given.expires_s)
            except Unreachable:
                self._standing.postpone()

    def send(self, files: list[Local], *, settled: bool = False) -> None:
        """All of them stored when it returns. `settled`: nobody writes them any more. Raises: Changed, Unreachable,
        Refused."""
        unique = list({file.sha256: file for file in files}.values())
        batches = [unique[start : start + _BATCH] for start in range(0, len(unique), _BATCH)]
        parallel(batches, lambda batch: self._batch(batch, settled), threads=_BATCHES_AT_ONCE)

    def _batch(self, batch: list[Local], settled: bool) -> None:
        items = [wire.GrantItem(file.sha256, file.size, file.sha256) for file in batch]
        try:
            granted = {grant.key: grant for grant in self._ask("put", items).grants}
        except Unreachable:
            if not self._standing.usable:
                raise
            parallel([file for file in batch if file.sha256 not in self._standing.sent], self._alone)
            return
        missing = [file.path for file in batch if file.sha256 not in granted]
        if missing:
            raise Unreachable(f"no grant was given for {missing[0]}")
        wanted = [(file, granted[file.sha256]) for file in batch if not granted[file.sha256].exists]
        parallel(wanted, lambda pair: self._put(*pair, settled))

    def manifest(self, sequence: int, final: bool, files: list[Local], refused: list[str]) -> None:
        """Raises: Unreachable, Refused."""
        entries = [file.entry for file in files]
        body = wire.Manifest(self._job, self._number, self._area, sequence, final, entries, refused)
        message = wire.encode(body)
        try:
            self._link.ask("POST", "/agent/v1/manifest", message)
        except Unreachable:
            if self._standing.usable:
                self._standing.send(self._link, wire.LEFT, len(message), lambda: iter([message]))
            raise

    def _ask(self, op: str, items: list[wire.GrantItem], *uploads: dict[str, object]) -> wire.Grants:
        ask = wire.GrantAsk(self._job, self._number, self._area, op, items, list(uploads))
        return self._link.call("/agent/v1/grants", ask, wire.Grants)

    def _alone(self, file: Local) -> None:
        number = file.open()
        try:
            self._standing.send(self._link, file.sha256, file.size, lambda: checked_blocks(number, file))
        finally:
            os.close(number)

    def _put(self, file: Local, grant: wire.Grant, settled: bool) -> None:
        """What the store refuses is not lost: the right may have run out, and is asked for again with the rest."""
        number = file.open()
        try:
            for left in range(_TRIES - 1, -1, -1):
                try:
                    if grant.parts:
                        self._parts(number, file, grant, settled)
                    else:
                        self._whole(number, file, grant)
                    return
                except Unreachable as error:
                    say("upload.failed", path=file.path, error=str(error), tries_left=left)
                    if not left:
                        raise
                except Refused as error:
                    raise Unreachable(f"the store refused {file.path}: {error}") from error
        finally:
            os.close(number)

    def _whole(self, number: int, file: Local, grant: wire.Grant) -> None:
        def body() -> Iterator[bytes]:
            return checked_blocks(number, file)

        send = self._link.exchange(grant.method, grant.url, grant.headers, body, size=file.size)
        with send as (_, connection):
            connection.body()

    def _parts(self, number: int, file: Local, grant: wire.Grant, settled: bool) -> None:
        """Several parts at once. The upload is completed only if the file was what was promised before and after."""
        before = stamp_of(os.fstat(number))
        known = settled and before == file.stamp
        etags = [""] * len(grant.parts)

        def part(index: int) -> None:
            start = index * grant.part_size
            size = max(0, min(grant.part_size, file.size - start))

            def body() -> Iterator[bytes]:
                return _slice(number, start, size)

            with self._link.exchange("PUT", grant.parts[index], grant.headers, body, size=size) as (head, connection):
                connection.body()
                etags[index] = head.headers.get("etag", "")

        hashing = _Hashing(number, file)
        if not known:
            hashing.start()
        parallel(list(range(len(grant.parts))), part, threads=4)
        if not known:
            hashing.join()
        if not (known or hashing.found == file.sha256) or stamp_of(os.fstat(number)) != before:
            raise Changed(file.path)
        self._ask("complete", [], {"key": grant.key, "upload_id": grant.upload_id, "parts": etags})


class _Hashing(threading.Thread):
    """The file's hash, beside the sending of its parts."""

    def __init__(self, number: int, file: Local) -> None:
        super().__init__(daemon=True)
        self._number = number
        self._file = file
        self.found = ""

    def run(self) -> None:
        digest = hashlib.sha256()
        try:
            for block in _slice(self._number, 0, self._file.size):
                digest.update(block)
        except (Changed, OSError):
            return
        self.found = digest.hexdigest()


def checked_blocks(number: int, file: Local) -> Iterator[bytes]:
    """The file's bytes, the last block only if all of them are what was promised. Raises: Changed."""
    digest = hashlib.sha256()
    held: Optional[bytes] = None
    for block in _slice(number, 0, file.size):
        if held is not None:
            yield held
        digest.update(block)
        held = block
    if digest.hexdigest() != file.sha256:
        raise Changed(file.path)
    if held is not None:
        yield held


def _slice(number: int, start: int, size: int) -> Iterator[bytes]:
    """Raises: Changed when the file is shorter than it was."""
    while size:
        block = os.pread(number, min(size, _BLOCK), start)
        if not block:
            raise Changed("the file has become shorter")
        yield block
        start, size = start + len(block), size - len(block)


def stamp_of(about: os.stat_result) -> Stamp:
    """What differs once a file was written, replaced or renamed."""
    return about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino
