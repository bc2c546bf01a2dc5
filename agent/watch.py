"""Sleeping until there is something to see: the kernel says when a file in a watched folder changes, or a child ends.

Directory notification sends a signal, and a signal's number goes into a pipe that one thread reads. Whether that works
here is tried out once; where it does not, whoever asks is told to look for himself, often.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import threading
from typing import Callable

_WHAT = ("DN_CREATE", "DN_MODIFY", "DN_RENAME")
_TRIAL_S = 1.0


class Signals:
    """`begin` in the main thread, once. `count` grows with every signal, and `told` is called."""

    def __init__(self, told: Callable[[], None]) -> None:
        self._told = told
        self.count = 0
        self.works = False

    def begin(self, trial: str) -> None:
        """`trial` is a folder in which a file may be made and deleted."""
        read, write = os.pipe()
        os.set_blocking(write, False)
        signal.signal(signal.SIGIO, _nothing)
        signal.signal(signal.SIGCHLD, _nothing)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        self.works = _tried(trial, read)
        threading.Thread(target=self._listen, args=(read,), name="signals", daemon=True).start()

    def _listen(self, read: int) -> None:
        while os.read(read, 4096):
            self.count += 1
            self._told()


class Watch:
    """Folders that one duty relies on. With `once` the first change ends the watch of a folder."""

    def __init__(self, signals: Signals, once: bool) -> None:
        self._signals = signals
        self._flags = _flags(once)
        self._once = once
        self._open: dict[str, int] = {}
        self._seen = -1

    def settled(self, folders: list[str]) -> bool:
        """Whether a change in any of them from now on is told of, and none has happened since this was last so; if
        not, look again. Raises nothing: a folder that is gone is not waited for."""
        if not self._signals.works:
            return False
        for folder in self._open.keys() - set(folders):
            os.close(self._open.pop(folder))
        count, new = self._signals.count, set(folders) - self._open.keys()
        if not new and self._seen == count:
            return True
        for folder in folders if self._once else new:
            with contextlib.suppress(OSError):
                self._arm(folder)
        self._seen = count
        return False

    def _arm(self, folder: str) -> None:
        if folder not in self._open:
            self._open[folder] = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.fcntl(self._open[folder], fcntl.F_NOTIFY, self._flags)


def _flags(once: bool) -> int:
    flags = 0
    for name in _WHAT if once else (*_WHAT, "DN_MULTISHOT"):
        flags |= getattr(fcntl, name, 0)
    return flags


def _tried(folder: str, read: int) -> bool:
    """Whether a change in `folder` puts a byte into the pipe."""
    path = os.path.join(folder, f".watched-{os.getpid()}")
    try:
        watched = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.fcntl(watched, fcntl.F_NOTIFY, _flags(once=True))
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
            os.unlink(path)
            return bool(select.select([read], [], [], _TRIAL_S)[0] and os.read(read, 4096))
        finally:
            os.close(watched)
    except (OSError, AttributeError):
        return False


def _nothing(number: int, frame: object) -> None:
    """A signal without a handler of Python's would not reach the pipe."""
