"""A small disk of a test's own, and what fills it."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[bool]:
    """`folder` on a file system of its own; False where this may not be done."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    done = subprocess.run(words, capture_output=True, check=False).returncode == 0
    try:
        yield done
    finally:
        if done:
            subprocess.run(["umount", "-l", str(folder)], check=False)


@contextlib.contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """This process's writes are cut there, and then fail, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def files_left(count: int) -> Iterator[None]:
    """This process may open so many files more, as under a low `ulimit -n`."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/dev/fd"))) + count, before[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(count):
            os.close(held.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for one in held:
            os.close(one)


def open_below(folder: Path) -> set[str]:
    """The names of the files in `folder` that this process has open."""
    links = [f"/dev/fd/{one}" for one in os.listdir("/dev/fd")]
    places = [Path(os.readlink(link)) for link in links if os.path.lexists(link)]
    return {place.name for place in places if folder in place.parents}


class Ballast:
    """What takes all the room that is left in a folder. `drop` gives it back."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "ballast"

    def fill(self) -> None:
        """Until the disk takes no more."""
        with contextlib.suppress(OSError), self._path.open("ab", buffering=0) as file:
            while (file.write(bytes(4096)) or 0) == 4096:
                pass

    def drop(self) -> None:
        self._path.unlink(missing_ok=True)
