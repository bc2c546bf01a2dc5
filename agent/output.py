"""What a job's processes write: read from pipes or a terminal, masked, and handed on in the order of reading.

Raw bytes throughout; nothing waits for the end of a line. A pipe is read until its last writer has gone, so what setup
left in the background goes on being heard while the command runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any, Optional

from .masking import Masker

STDOUT, STDERR = 1, 2  # as wire has them
_READ = 2**18
_PIPE_SIZE = 2**20
_F_SETPIPE_SZ = 1031  # Source: fcntl(2)
_SMALL = 4096
_OFTEN, _OFTEN_S, _REST_S = 16, 0.005, 0.002  # arbitrary: a writer of crumbs is read 500 times a second, not 50,000
_ROWS_COLUMNS = (24, 80)


class Output:
    """`pump` and `drain` give what was read to `emit(stream, data)`."""

    def __init__(self, forms: list[bytes], emit: Callable[[int, bytes], None]) -> None:
        """Signals wake `pump` from here on. `forms`: what to mask."""
        self._forms = forms
        self._emit = emit
        self._streams: dict[int, tuple[int, Masker]] = {}
        self._selector = selectors.DefaultSelector()
        self._crumbs = 0
        self._read_at = 0.0
        self._wake, wake_write = os.pipe()
        for end in (self._wake, wake_write):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        self._selector.register(self._wake, selectors.EVENT_READ)

    def start(self, argv: list[str], tty: bool, **how: Any) -> int:
        """A process in a session of its own, heard from now on; its pid. `how` is Popen's; a `user` in it is given what
        it writes to, or could not open /dev/stdout. Raises: OSError, ValueError, SubprocessError."""
        before = how.pop("preexec_fn", None)
        if tty:
            ours, theirs = os.openpty()
            outputs, ends = {ours: STDOUT}, {theirs}
            streams: dict[str, Any] = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
            before = _both(_take_terminal, before)
            _set_size(theirs)
        else:
            (out, out_write), (err, err_write) = os.pipe(), os.pipe()
            outputs, ends = {out: STDOUT, err: STDERR}, {out_write, err_write}
            streams = {"stdin": subprocess.DEVNULL, "stdout": out_write, "stderr": err_write}
            with contextlib.suppress(OSError):  # the user's share of pipe memory may be used up
                fcntl.fcntl(out, _F_SETPIPE_SZ, _PIPE_SIZE)
        try:
            for end in ends if "user" in how else ():
                os.fchown(end, how["user"], how["group"])
            child = subprocess.Popen(argv, start_new_session=True, preexec_fn=before, **streams, **how)
        except BaseException:
            ends |= set(outputs)
            raise
        finally:
            for end in ends:
                os.close(end)
        child.returncode = 0  # reaped with everything else that is below us
        for end, stream in outputs.items():
            os.set_blocking(end, False)
            self._streams[end] = (stream, Masker(self._forms))
            self._selector.register(end, selectors.EVENT_READ)
        return child.pid

    def pump(self, timeout_s: float) -> bool:
        """Read what is there. Whether a signal has come."""
        signalled, size = False, 0
        for key, _ in self._selector.select(timeout_s):
            if key.fd == self._wake:
                signalled = bool(os.read(self._wake, 4096))
            else:
                size += self._read(key.fd)
        if size:
            self._rest(size)
        return signalled

    def drain(self) -> None:
        """Every writer is dead: what is in the pipes now is all there will ever be."""
        for end in list(self._streams):
            while end in self._streams and self._read(end):
                pass
            if end in self._streams:
                self._close(end)

    def _rest(self, size: int) -> None:
        """Let crumbs gather in the pipe: each piece costs a span in the index, and the processor's time."""
        now = time.monotonic()
        often = size < _SMALL and now - self._read_at < _OFTEN_S
        self._crumbs = self._crumbs + 1 if often else 0
        self._read_at = now
        if self._crumbs > _OFTEN:
            time.sleep(_REST_S)

    def _read(self, end: int) -> int:
        """How many bytes came; at its end, the stream is closed."""
        stream, masker = self._streams[end]
        try:
            data = os.read(end, _READ)
        except BlockingIOError:
            return 0
        except OSError:  # a terminal whose other side is closed
            data = b""
        if data:
            self._emit(stream, masker.feed(data))
        else:
            self._close(end)
        return len(data)

    def _close(self, end: int) -> None:
        stream, masker = self._streams.pop(end)
        self._selector.unregister(end)
        os.close(end)
        self._emit(stream, masker.flush())


def _both(one: Callable[[], None], other: Optional[Callable[[], None]]) -> Callable[[], None]:
    def each() -> None:
        one()
        if other is not None:
            other()

    return each


def _set_size(terminal: int) -> None:
    import struct
    import termios

    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *_ROWS_COLUMNS, 0, 0))


def _take_terminal() -> None:
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
