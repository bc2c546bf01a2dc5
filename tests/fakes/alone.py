"""Machines on one computer are known by their names: tests that use the same ones do so one after the other."""

from __future__ import annotations

import contextlib
import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def with_names() -> Iterator[None]:
    """Waits for whoever has them, in any process."""
    with (Path(tempfile.gettempdir()) / "gpu-runner-tests-names.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
