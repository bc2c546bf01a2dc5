"""A real PostgreSQL server in a temporary folder, run as a user other than root, ended by its process id."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .ports import free_port

_USER = "runner"


def binaries() -> Path | None:
    """Where initdb and pg_ctl are; None when PostgreSQL is not installed."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The URL of its one database. fsync is off: these tests are not about power loss."""
    folder = binaries()
    assert folder is not None
    top = Path(tempfile.mkdtemp(prefix="runner-pg-"))
    demote = _other_user(top)
    port = free_port()
    try:
        _do([folder / "initdb", "-D", top / "data", "-U", _USER, "-A", "trust", "-E", "UTF8", "-N"], demote)
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={top} -c fsync=off"
        _do([folder / "pg_ctl", "-D", top / "data", "-w", "-l", top / "log", "-o", options, "start"], demote)
        try:
            _do([folder / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", _USER, "runner"], demote)
            yield f"postgresql://{_USER}@127.0.0.1:{port}/runner"
        finally:
            _do([folder / "pg_ctl", "-D", top / "data", "-m", "immediate", "-w", "stop"], demote)
    finally:
        shutil.rmtree(top, ignore_errors=True)


def _other_user(top: Path) -> dict[str, int]:
    """PostgreSQL refuses root: the account that it is installed with, or nobody."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            account = pwd.getpwnam(name)
            os.chown(top, account.pw_uid, account.pw_gid)
            return {"user": account.pw_uid, "group": account.pw_gid}
    raise RuntimeError("no account to run PostgreSQL as")


def _do(words: list[object], demote: dict[str, int]) -> None:
    done = subprocess.run(
        [str(word) for word in words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if "start" not in words else subprocess.DEVNULL,
        stderr=subprocess.STDOUT if "start" not in words else subprocess.DEVNULL,
        cwd="/",
        check=False,
        **demote,  # type: ignore[call-overload]
    )
    if done.returncode != 0:
        raise RuntimeError(f"{words[0]} failed: {done.stdout!r}")
