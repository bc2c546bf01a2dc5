"""The controller's home folder: where its things are, and the lock that lets one controller at a time have it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from provisioner.domain.errors import Conflict, InvalidRequest

_SUN_PATH = 107  # bytes of a Unix socket's path. Source: unix(7), sun_path[108].
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Home:
    """Paths under one folder, 0700. `lasting` is another one's, for what outlives this one where it is thrown away."""

    path: Path
    lasting: Path | None = None

    @property
    def control_socket(self) -> Path:
        return self.path / "control.sock"

    @property
    def agents_socket(self) -> Path:
        return self.path / "agents.sock"

    @property
    def database(self) -> Path:
        return self.path / "runner.db"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def objects(self) -> Path:
        return self.path / "objects"

    @property
    def offers(self) -> Path:
        """Catalogues that were refreshed, a folder a provider."""
        return (self.lasting or self.path) / "offers"

    @property
    def cache(self) -> Path:
        return (self.lasting or self.path) / "cache"

    def make(self) -> None:
        """Raises: InvalidRequest when it cannot be used."""
        if len(os.fsencode(self.control_socket)) > _SUN_PATH:
            raise InvalidRequest(
                f"{self.path} is too long a path for a socket in it", hint="set RUNNER_HOME to a shorter one"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.path.chmod(0o700)
            for folder in (self.logs, self.objects, self.cache):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise InvalidRequest(f"cannot use {self.path}: {error.strerror}", hint="set RUNNER_HOME") from error

    @contextlib.contextmanager
    def held(self, patience_s: float = 3.0, leaves: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Held while a controller, or an offline database command, works here. One that is leaving is waited for, and
        `leaves` asked again and again meanwhile: false says that it will not.

        Raises: Conflict naming the holder.
        """
        with (self.path / "controller.lock").open("a+") as lock:
            deadline = time.monotonic() + patience_s
            while not _locked(lock):
                if time.monotonic() < deadline and leaves():
                    time.sleep(_POLL_S)
                    continue
                lock.seek(0)
                holder = lock.read().strip() or "unknown"
                raise Conflict(
                    f"{self.path} is in use by the controller with pid {holder}",
                    hint="stop it first, or use another RUNNER_HOME",
                )
            lock.seek(0)
            lock.truncate()
            lock.write(str(os.getpid()))
            lock.flush()
            yield


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
