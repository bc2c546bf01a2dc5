"""Objects as files below one directory: no SDK, nothing to start, and whole or absent whatever happens.

A put writes to a hidden file, syncs it, renames it into place and syncs the folder. Blocking calls run in threads, a
large block at a time, so that the loop is never held and memory stays bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import stat
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from provisioner.domain.errors import ObjectsError
from provisioner.domain.ports import Multipart, ObjectInfo, Objects, SignedRequest

from .keys import HIDDEN, checked, checked_folder

_BLOCK = 4 * 2**20  # bytes a thread reads or writes at once; arbitrary
_READ = 2**20
_BATCH = 256  # keys deleted in one call of a thread; arbitrary

OpenForeign = Callable[[str], tuple[Objects, str]]


class DirectoryObjects:
    """`root` is made on the first put."""

    signs = False

    def __init__(self, root: Path, *, foreign: OpenForeign) -> None:
        self._root = root
        self._foreign = foreign

    def __repr__(self) -> str:
        return f"<DirectoryObjects {self._root}>"

    @property
    def url(self) -> str:
        return str(self._root)

    async def put(self, key: str, data: AsyncIterator[bytes] | bytes | Path) -> int:
        target = self._path(key)
        part = self._root / HIDDEN / uuid.uuid4().hex
        with _mapped(key):
            file = await asyncio.to_thread(_open_part, part)
        try:
            if isinstance(data, Path):
                with _mapped(key):
                    await asyncio.to_thread(_copy, data, file)
            else:
                async for block in _blocks(data):
                    with _mapped(key):
                        await asyncio.to_thread(file.write, block)
            with _mapped(key):
                return await asyncio.to_thread(_publish, file, part, target, self._root)
        finally:
            file.close()
            part.unlink(missing_ok=True)

    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Bytes `start` to `end` (exclusive); less when the object is shorter."""
        path = self._path(key)
        with _mapped(key):
            file = await asyncio.to_thread(path.open, "rb")
        with file:
            file.seek(start)
            left = end - start if end is not None else None
            while left is None or left > 0:
                with _mapped(key):
                    block = await asyncio.to_thread(file.read, _READ if left is None else min(_READ, left))
                if not block:
                    return
                left = None if left is None else left - len(block)
                yield block

    async def head(self, key: str) -> ObjectInfo | None:
        path = self._path(key)
        with _mapped(key):
            found = await asyncio.to_thread(_stat, path)
        return None if found is None else _info(key, found)

    async def under(self, prefix: str) -> list[ObjectInfo]:
        """Every object in the folder `prefix` and below, by key."""
        folder = checked_folder(prefix)
        with _mapped(prefix):
            return await asyncio.to_thread(lambda: sorted(_walk(self._root, folder), key=lambda info: info.key))

    async def delete(self, keys: Sequence[str]) -> None:
        paths = [self._path(key) for key in keys]
        for first in range(0, len(paths), _BATCH):
            with _mapped(keys[first]):
                await asyncio.to_thread(_remove, paths[first : first + _BATCH], self._root)

    async def sign(self, keys: Sequence[str], method: str, expires_s: float) -> list[SignedRequest]:
        raise ObjectsError("a directory cannot sign requests")

    async def multipart(self, key: str, size: int, expires_s: float) -> Multipart:
        raise ObjectsError("a directory cannot sign requests")

    async def complete(self, key: str, upload_id: str, etags: Sequence[str]) -> None:
        raise ObjectsError("a directory has no multipart uploads")

    async def post_policy(self, prefix: str, expires_s: float, max_bytes: int) -> Mapping[str, Any] | None:
        return None

    async def foreign(self, source: str) -> tuple[Objects, str]:
        return self._foreign(source)

    def _path(self, key: str) -> Path:
        return self._root / checked(key)


@contextlib.contextmanager
def _mapped(key: str) -> Iterator[None]:
    """The operating system's errors as ours."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise ObjectsError(f"no object {key!r}", missing=True) from error
    except OSError as error:
        hint = "free some space; nothing was stored" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise ObjectsError(f"object {key!r}: {error.strerror}", hint=hint) from error


async def _blocks(data: AsyncIterator[bytes] | bytes) -> AsyncIterator[bytes]:
    """The same bytes in blocks worth a trip to a thread."""
    if isinstance(data, bytes | bytearray | memoryview):
        yield bytes(data)
        return
    waiting: list[bytes] = []
    size = 0
    async for chunk in data:
        waiting.append(chunk)
        size += len(chunk)
        if size >= _BLOCK:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def _open_part(part: Path) -> IO[bytes]:
    with contextlib.suppress(FileNotFoundError):
        return os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0)
    part.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0)


def _copy(source: Path, file: IO[bytes]) -> None:
    with source.open("rb") as reading:
        shutil.copyfileobj(reading, file, _BLOCK)


def _publish(file: IO[bytes], part: Path, target: Path, root: Path) -> int:
    file.flush()
    os.fsync(file.fileno())
    size = os.fstat(file.fileno()).st_size
    while True:
        _make_folder(target.parent, root)
        with contextlib.suppress(FileNotFoundError):  # an emptied folder may be removed between the two
            part.replace(target)
            break
    _sync_folder(target.parent)
    return size


def _make_folder(folder: Path, root: Path) -> None:
    if folder.is_dir():
        return
    if folder != root:
        _make_folder(folder.parent, root)
    folder.mkdir(exist_ok=True, parents=folder == root, mode=0o700)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _stat(path: Path) -> os.stat_result | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _info(key: str, found: os.stat_result) -> ObjectInfo:
    """A put is a new file renamed into place, so that its number changes where its time might not."""
    return ObjectInfo(key, found.st_size, f"{found.st_mtime_ns:x}-{found.st_ino:x}")


def _walk(root: Path, folder: str) -> Iterator[ObjectInfo]:
    top = root / folder if folder else root
    for here, folders, names in os.walk(top):
        if Path(here) == root and HIDDEN in folders:
            folders.remove(HIDDEN)
        for name in names:
            path = Path(here, name)
            found = _stat(path)
            if found is not None:
                yield _info(path.relative_to(root).as_posix(), found)


def _remove(paths: Sequence[Path], root: Path) -> None:
    """Files, then the folders that this emptied."""
    for path in paths:
        try:
            path.unlink()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            continue
        folder = path.parent
        while folder != root:
            try:
                folder.rmdir()
            except OSError:
                break
            folder = folder.parent
