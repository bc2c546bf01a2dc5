"""A real OpenSSH server: on loopback for a test, or as the one of a host in namespaces of its own.

`python -m tests.fakes.sshd FOLDER` is what cloud-init's SSH module does with the cloud-config in FOLDER/cloud.json, in
the mount namespace that it is run in, and then becomes the server on port 22.
"""

from __future__ import annotations

import contextlib
import functools
import getpass
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.ports import free_port, until_listening

SERVER = "/usr/sbin/sshd"
_CONFIG = """
HostKey {host_key}
AuthorizedKeysFile {authorized}
PidFile {pid}
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 300:30:600
SetEnv PATH={path}
{more}
"""


@functools.cache
def missing() -> str:
    """Why there is no server here; empty when there is."""
    return "" if os.access(SERVER, os.X_OK) else f"no {SERVER} here (package openssh-server)"


@dataclass
class Server:
    """`user` may log in with the private key `key`; `host_key` is the server's public one."""

    port: int
    user: str
    key: str
    host_key: str
    folder: Path
    process: subprocess.Popen[bytes]


def new_key(path: Path) -> str:
    """A key pair at `path`; the public key."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return " ".join(path.with_name(path.name + ".pub").read_text().split()[:2])


@contextlib.contextmanager
def serving(
    folder: Path, *, host: str = "127.0.0.1", port: int = 0, admitted: str = "", more: str = "", own_users: bool = False
) -> Iterator[Server]:
    """On a free port, for whoever runs the test. `admitted` is a further public key that may log in. `own_users`: users
    made there are nobody's here (as root)."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "host").exists():
        new_key(folder / "host"), new_key(folder / "mine")
    host_key, mine = (" ".join((folder / f"{name}.pub").read_text().split()[:2]) for name in ("host", "mine"))
    if not (folder / "authorized").exists():
        (folder / "authorized").write_text(f"{mine}\n{admitted}\n")
    port = port or free_port()
    words = _written(folder, folder / "host", folder / "authorized", folder / "pid", f"ListenAddress {host}\n{more}")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    if own_users:
        if not (folder / "etc").exists():
            _own_users(folder)
        words = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc && exec "$@"', str(folder / "etc"), *words]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen([*words, "-p", str(port)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        until_listening(port, host)
        yield Server(port, getpass.getuser(), (folder / "mine").read_text(), host_key, folder, process)
    finally:
        process.terminate()
        process.wait(10)


def _own_users(folder: Path) -> None:
    """A copy of /etc, in which root has a home and a shell without anything of this computer's."""
    subprocess.run(["cp", "-a", "/etc", str(folder / "etc")], check=True)
    (folder / "home").mkdir()
    users = folder / "etc/passwd"
    lines = users.read_text().splitlines()
    mine = f"root:x:0:0:root:{folder}/home:/bin/sh"
    users.write_text("\n".join(mine if line.startswith("root:") else line for line in lines) + "\n")


def _written(folder: Path, host_key: Path, authorized: Path, pid: Path, more: str = "") -> list[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    text = _CONFIG.format(host_key=host_key, authorized=authorized, pid=pid, path=path, more=more)
    (folder / "sshd_config").write_text(text)
    return [SERVER, "-D", "-e", "-f", str(folder / "sshd_config")]


def _as_cloud_init(folder: Path) -> None:
    """Never returns. The folders that it writes to are hidden from everybody else's first."""
    told = json.loads((folder / "cloud.json").read_text())
    home = Path.home() / ".ssh"
    for there in (Path("/etc/ssh"), home, Path("/run")):
        mine = folder / "ssh" / str(there).strip("/")
        mine.mkdir(parents=True, mode=0o700)
        there.mkdir(exist_ok=True)
        subprocess.run(["mount", "--bind", str(mine), str(there)], check=True)
    Path("/run/sshd").mkdir()
    for name, text in told["ssh_keys"].items():
        kind, _, which = name.rpartition("_")
        path = Path(f"/etc/ssh/ssh_host_{kind}_key{'.pub' if which == 'public' else ''}")
        path.touch(mode=0o600)
        path.write_text(text)
    keys = told["ssh_authorized_keys"] if not told["disable_root"] else []
    (home / "authorized_keys").write_text("".join(f"{key}\n" for key in keys))
    words = _written(folder, Path("/etc/ssh/ssh_host_ed25519_key"), home / "authorized_keys", Path("/run/sshd.pid"))
    os.execv(words[0], [*words, "-p", "22"])


if __name__ == "__main__":
    _as_cloud_init(Path(sys.argv[1]))
