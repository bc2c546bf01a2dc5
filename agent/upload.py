"""Files to the object store by grants, and the manifest that makes them count.

Objects are named by the sha256 of their content, so sending one twice, or by two attempts, does no harm, and what the
store has already is not sent. What is sent is hashed again on its way: a file that changed since it was looked at never
gets under a name that is not its own. The manifest goes last. While the controller is away a standing right will do for
the files; only the controller can say that they are stored.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Callable, Optional, TypeVar

from . import wire
from .link import Link, Unreachable
from .say import say
from .standing import LEFT, Standing

T = TypeVar("T")
_BLOCK = 2**20
_AT_ONCE = 8
_BATCH = 200
_TRIES = 3


class Changed(Exception):
    """The file is not what it was when it was hashed."""


@dataclass(frozen=True)
class Local:
    """A file to be taken: `path` as in the manifest; `open` gives a descriptor of what was looked at."""

    path: str
    size: int
    sha256: str
    mode: int
    open: Callable[[], int]

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

    def send(self, files: list[Local]) -> None:
        """All of them stored when it returns. Raises: Changed, Unreachable, Refused."""
        unique = {file.sha256: file for file in files}
        keys = list(unique)
        for start in range(0, len(keys), _BATCH):
            batch = [unique[key] for key in keys[start : start + _BATCH]]
            items = [wire.GrantItem(file.sha256, file.size, file.sha256) for file in batch]
            try:
                granted = {grant.key: grant for grant in self._ask("put", items).grants}
            except Unreachable:
                if not self._standing.usable:
                    raise
                parallel([file for file in batch if file.sha256 not in self._standing.sent], self._alone)
                continue
            missing = [file.path for file in batch if file.sha256 not in granted]
            if missing:
                raise Unreachable(f"no grant was given for {missing[0]}")
            wanted = [(file, granted[file.sha256]) for file in batch if not granted[file.sha256].exists]
            parallel(wanted, lambda pair: self._put(*pair))

    def manifest(self, sequence: int, final: bool, files: list[Local], refused: list[str]) -> None:
        """Raises: Unreachable, Refused."""
        entries = [file.entry for file in files]
        body = wire.Manifest(self._job, self._number, self._area, sequence, final, entries, refused)
        message = wire.encode(body)
        try:
            self._link.ask("POST", "/agent/v1/manifest", message)
        except Unreachable:
            if self._standing.usable:
                self._standing.send(self._link, LEFT, len(message), lambda: iter([message]))
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

    def _put(self, file: Local, grant: wire.Grant) -> None:
        number = file.open()
        try:
            for left in range(_TRIES - 1, -1, -1):
                try:
                    if grant.parts:
                        self._parts(number, file, grant)
                    else:
                        self._whole(number, file, grant)
                    return
                except Unreachable as error:
                    say("upload.failed", path=file.path, error=str(error), tries_left=left)
                    if not left:
                        raise
        finally:
            os.close(number)

    def _whole(self, number: int, file: Local, grant: wire.Grant) -> None:
        def body() -> Iterator[bytes]:
            return checked_blocks(number, file)

        send = self._link.exchange(grant.method, grant.url, grant.headers, body, size=file.size)
        with send as (_, connection):
            connection.body()

    def _parts(self, number: int, file: Local, grant: wire.Grant) -> None:
        """Several parts at once. The upload is completed only if the file was what was promised before and after."""
        before = _stamp(number)
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
        hashing.start()
        parallel(list(range(len(grant.parts))), part, threads=4)
        hashing.join()
        if hashing.found != file.sha256 or _stamp(number) != before:
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


def _stamp(number: int) -> tuple[int, int, int]:
    now = os.fstat(number)
    return now.st_size, now.st_mtime_ns, now.st_ctime_ns
