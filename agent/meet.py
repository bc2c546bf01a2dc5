"""What a controller runs on a rented machine over SSH, as a word of the command: `python3 -I -c THIS COMMAND STATE`.

The first connection is made with a host key that came in the user-data, which somebody else may have read. Over it the
machine makes a key of its own (`meet`), the controller notes it, and the machine then answers with that one alone
(`settle`). `take` receives agent.pyz, for which `boot.py run` waits. All of them may be done again.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from typing import Any

_KEY = "host_key"
_INSTALLED = "etc/ssh/ssh_host_ed25519_key"
_AGENT = "agent.pyz"
_BOOT = "boot.json"
_SERVICES = ("ssh", "sshd")  # as Debian and as Red Hat call it


def main(words: list[str]) -> int:
    """Exit code; what went wrong is the last line on stderr."""
    command, state = words
    if command == "meet":
        print(json.dumps({"host_key": meet(state), "has_agent": has_agent(state)}))
    elif command == "take":
        take(state, sys.stdin.buffer.read())
    elif command == "settle":
        settle(state)
    else:
        print(f"{command}: not a command", file=sys.stderr)
        return 2
    return 0


def meet(state: str) -> str:
    """The machine's own public key, made when it is missing."""
    path = os.path.join(state, _KEY)
    if not os.path.exists(f"{path}.pub"):
        for leftover in (path, f"{path}.part", f"{path}.part.pub"):
            if os.path.exists(leftover):
                os.unlink(leftover)
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", f"{path}.part"]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
        os.rename(f"{path}.part", path)
        os.rename(f"{path}.part.pub", f"{path}.pub")
    with open(f"{path}.pub") as file:
        return " ".join(file.read().split()[:2])


def has_agent(state: str) -> bool:
    """Whether the one that this machine is to run is there. It runs that one to its end, whatever its controller has
    become meanwhile."""
    try:
        with open(os.path.join(state, _AGENT), "rb") as file:
            return hashlib.sha256(file.read()).hexdigest() == str(_boot(state)["sha256"])
    except OSError:
        return False


def take(state: str, data: bytes) -> None:
    """The agent, and that it is the one to run; `boot.py run` begins when both are there."""
    _place(os.path.join(state, _AGENT), data)
    told = {**_boot(state), "sha256": hashlib.sha256(data).hexdigest()}
    _place(os.path.join(state, _BOOT), json.dumps(told).encode())


def _boot(state: str) -> dict[str, Any]:
    with open(os.path.join(state, _BOOT)) as file:
        told: dict[str, Any] = json.load(file)
    return told


def settle(state: str, root: str = "/") -> None:
    """The SSH server below `root` shows the machine's own key from the next connection on; this one goes on."""
    installed = os.path.join(root, _INSTALLED)
    for ending in ("", ".pub"):
        with open(os.path.join(state, _KEY) + ending, "rb") as file:
            _place(installed + ending, file.read())
    if os.path.isdir("/run/systemd/system"):
        for name in _SERVICES:
            if subprocess.run(["systemctl", "reload", name], check=False, stderr=subprocess.DEVNULL).returncode == 0:
                return
    with open(os.path.join(root, "run/sshd.pid")) as file:
        os.kill(int(file.read()), signal.SIGHUP)


def _place(path: str, data: bytes) -> None:
    part = f"{path}.part"
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
