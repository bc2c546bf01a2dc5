"""Which controller to talk to: RUNNER_SERVER if it is set, else the embedded one, started when none runs.

A lock decides who starts it; it gets a clean environment and a session of its own, so that it outlives the command.
An older embedded controller is asked to step down, and ours is started once it has gone; jobs and machines go on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from provisioner import __version__

from .client import Client
from .failures import CliError, Unreachable
from .render import say

_READY_S = 60.0  # arbitrary: it needs one second of processor, which a busy machine may take long to give
_SLOW_S = 10.0  # arbitrary: after which whoever waits is told what for
_POLL_S = 0.01
_SUN_PATH = 107  # bytes of a Unix socket's path. Source: unix(7), sun_path[108].
_TAIL = 5  # lines of its log that are shown when it says nothing better; arbitrary
_LEAST_FREE = 2**20  # bytes without which no controller can begin; arbitrary
_REFUSED = 3  # what `serve` exits with while another controller still holds the home
_KEPT = ("HOME", "PATH", "LANG", "LC_ALL", "USER", "LOGNAME", "TZ", "TMPDIR", "CUDA_VISIBLE_DEVICES", "PYTHONPATH")
_OURS = ("RUNNER_HOME", "RUNNER_SECRET_KEY", "RUNNER_STORE_URL", "RUNNER_OBJECTS_URL", "RUNNER_POLICY_SCALE")
_AWS = ("ENDPOINT_URL", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "REGION", "DEFAULT_REGION")
# Credentials, only for the kind of object store that RUNNER_OBJECTS_URL names.
_CLOUD = {
    "s3": tuple(f"AWS_{name}" for name in _AWS),
    "gs": ("GOOGLE_APPLICATION_CREDENTIALS",),
    "az": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"),
}


def home() -> Path:
    return Path(os.environ.get("RUNNER_HOME") or Path.home() / ".runner").expanduser().absolute()


def connected(*, start: bool = True) -> Client:
    """A client that somebody answers. Raises: Unreachable, CliError."""
    if server := os.environ.get("RUNNER_SERVER"):
        return another(server)
    path = home() / "control.sock"
    if len(os.fsencode(path)) > _SUN_PATH:
        raise CliError(f"{path.parent} is too long a path for a socket in it", "set RUNNER_HOME to a shorter one")
    client = Client(f"unix:{path}")
    if answers(client):
        return client
    if not start:
        raise Unreachable("no controller runs here", "any command that needs one starts it")
    _start(client)
    return client


def another(target: str) -> Client:
    """One more client to the same controller, for another thread. A CI job without a token says who it is instead."""
    token, ca = os.environ.get("RUNNER_TOKEN", ""), os.environ.get("RUNNER_CA", "")
    renew = None
    if not token and not target.startswith("unix:"):
        from .identity import renewal

        renew = renewal(target, ca)
    return Client(target, token, ca, renew)


def again(client: Client) -> None:
    """After an answer was lost: wait for the controller, or start the embedded one again."""
    client.close()
    if client.target.startswith("unix:"):
        if not answers(client):
            _start(client)
        return
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(Unreachable):
            client.get("/status")
            return
        time.sleep(0.5)
    raise Unreachable(f"no controller at {client.target}")


def answers(client: Client) -> bool:
    """Whether a controller of this version or newer answers; an older embedded one is asked to step down."""
    try:
        status = client.get("/status")
        client.told = status
        if not status.get("embedded") or not _older(str(status.get("version", "")), __version__):
            return True
        client.post("/shutdown", {"reason": "a newer command line"})
    except Unreachable as error:
        if isinstance(error.__cause__, PermissionError):
            raise
    client.close()
    return False


def _older(one: str, other: str) -> bool:
    def parts(text: str) -> list[int]:
        return [int(part) for part in text.split(".") if part.isdigit()]

    return parts(one) < parts(other)


def _start(client: Client) -> None:
    folder = home()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _turn(folder):
            if (child := begin(client, folder)) is not None:
                child.returncode = 0  # it is not ours to wait for
    except OSError as error:
        raise CliError(f"cannot use {folder}: {error.strerror}", "set RUNNER_HOME") from error


def begin(
    client: Client,
    folder: Path,
    start: Callable[[], subprocess.Popen[bytes]] | None = None,
    ready_s: float = _READY_S,
) -> subprocess.Popen[bytes] | None:
    """Until one answers: whoever has the home, else one that `start` starts and that is returned then. Ours gives way
    to a served one that comes meanwhile. Raises: Unreachable."""
    said_from = refused = 0
    child: subprocess.Popen[bytes] | None = None
    deadline, quiet_until = time.monotonic() + ready_s, time.monotonic() + _SLOW_S
    while time.monotonic() < deadline:
        if time.monotonic() > quiet_until:
            say("runner: the embedded controller is slow to start; waiting for it")
            quiet_until = deadline
        if answers(client):
            return child
        if child is None and not _accepts(folder) and not _held(folder):
            said_from = _size(folder / "controller.log")
            child = start() if start is not None else spawn(folder)
        elif child is not None and (code := child.poll()) is not None:
            refused += code == _REFUSED and not _held(folder)
            if code not in (0, _REFUSED) or refused > 1:
                break
            child = None
        time.sleep(_POLL_S)
    if child is None and _held(folder):
        holder = (folder / "controller.lock").read_text() or "unknown"
        raise Unreachable(f"{folder} is in use by the controller with pid {holder}, which does not answer")
    raise Unreachable("the embedded controller did not start", said(folder, said_from))


def _accepts(folder: Path) -> bool:
    """Whether anybody takes connections there, whatever they answer."""
    import socket

    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(folder / "control.sock")) == 0


def _held(folder: Path) -> bool:
    """Whether somebody holds the home. Whoever finds this in their way tries again."""
    with contextlib.suppress(FileNotFoundError), (folder / "controller.lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def clean_environment(given: Mapping[str, str]) -> dict[str, str]:
    """What of the caller's environment a controller sees: nothing that was meant for somebody else."""
    scheme = given.get("RUNNER_OBJECTS_URL", "").partition("://")[0]
    kept = (*_KEPT, *_OURS, *_CLOUD.get(scheme, ()))
    return {name: given[name] for name in kept if name in given}


def spawn(
    folder: Path, words: Sequence[str] = (), without: Sequence[str] = (), stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Without these variables, and with more words."""
    given = {name: value for name, value in os.environ.items() if name not in without}
    environment = clean_environment(given) | {"RUNNER_HOME": str(folder)}
    with (folder / "controller.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "provisioner", "serve", "--embedded", *words],
            stdin=stdin,
            stdout=log,
            stderr=log,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )


def said(folder: Path, since: int) -> str:
    """The sentence that it ended with, or the last of what it logged since then."""
    with (folder / "controller.log").open("rb") as file:
        file.seek(since)
        lines = file.read().decode(errors="replace").strip().splitlines()
    last = next((line for line in reversed(lines) if line.startswith("runner: ")), "")
    if said := (last.removeprefix("runner: ") or " | ".join(lines[-_TAIL:]))[-600:]:
        return said
    disk = os.statvfs(folder)
    if disk.f_bavail * disk.f_frsize < _LEAST_FREE:
        return f"there is no space left on the disk of {folder}: free some, or set RUNNER_HOME"
    return f"see {folder / 'controller.log'}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextlib.contextmanager
def _turn(folder: Path) -> Iterator[None]:
    with (folder / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
