"""Which controller to talk to: RUNNER_SERVER if it is set, else the embedded one, started when none runs.

A lock decides who starts it; it gets a clean environment and a session of its own, so that it outlives the command.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from provisioner import __version__

from .client import Client
from .failures import CliError, Unreachable

_READY_S = 15.0
_SUN_PATH = 107
_KEPT = ("HOME", "PATH", "LANG", "LC_ALL", "USER", "LOGNAME", "TZ", "TMPDIR", "CUDA_VISIBLE_DEVICES", "PYTHONPATH")
_OURS = ("RUNNER_HOME", "RUNNER_SECRET_KEY", "RUNNER_STORE_URL", "RUNNER_OBJECTS_URL", "RUNNER_POLICY_SCALE")
_CLOUD = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION")


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
    if _answers(client):
        return client
    if not start:
        raise Unreachable("no controller runs here", "any command that needs one starts it")
    _start(client)
    return client


def another(target: str) -> Client:
    """One more client to the same controller, for another thread."""
    return Client(target, os.environ.get("RUNNER_TOKEN", ""), os.environ.get("RUNNER_CA", ""))


def again(client: Client) -> None:
    """After an answer was lost: wait for the controller, or start the embedded one again."""
    client.close()
    if client.target.startswith("unix:"):
        if not _answers(client):
            _start(client)
        return
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(Unreachable):
            client.get("/status")
            return
        time.sleep(0.5)
    raise Unreachable(f"no controller at {client.target}", "the job goes on; `runner logs -f` shows it later")


def _answers(client: Client) -> bool:
    """Whether a controller of this version or newer answers; an older embedded one is asked to step down."""
    try:
        status = client.get("/status")
    except Unreachable:
        return False
    if status.get("embedded") and _older(str(status.get("version", "")), __version__):
        client.post("/shutdown", {"reason": "a newer command line"})
        client.close()
        return False
    return True


def _older(one: str, other: str) -> bool:
    def parts(text: str) -> list[int]:
        return [int(part) for part in text.split(".") if part.isdigit()]

    return parts(one) < parts(other)


def _start(client: Client) -> None:
    folder = home()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise CliError(f"cannot use {folder}: {error.strerror}", "set RUNNER_HOME") from error
    deadline = time.monotonic() + _READY_S
    with _turn(folder):
        child: subprocess.Popen[bytes] | None = None
        while time.monotonic() < deadline:
            with contextlib.suppress(Unreachable):
                client.get("/status")
                if child is not None:
                    child.returncode = 0  # it is not ours to wait for
                return
            if child is None:
                child = _spawn(folder)
            elif child.poll() is not None:
                break
            time.sleep(0.01)
    raise Unreachable("the embedded controller did not start", _said(folder))


def _spawn(folder: Path) -> subprocess.Popen[bytes]:
    kept = (*_KEPT, *_OURS, *(_CLOUD if "://" in os.environ.get("RUNNER_OBJECTS_URL", "") else ()))
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    with (folder / "controller.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "provisioner", "serve", "--embedded"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )


def _said(folder: Path) -> str:
    lines = (folder / "controller.log").read_text(errors="replace").strip().splitlines()
    last = next((line for line in reversed(lines) if line.startswith("runner: ")), lines[-1] if lines else "")
    return last.removeprefix("runner: ")[:400] or f"see {folder / 'controller.log'}"


@contextlib.contextmanager
def _turn(folder: Path) -> Iterator[None]:
    with (folder / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
