"""Whom jobs run as on a rented machine: a user of their own, who is root by sudo unless the job says otherwise.

Agent and supervisors stay root, and their folder is closed to that user. What a supervisor starts gives up every right
of root's for good; with `sudo: false` no program can bring any back.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import subprocess
import time
from dataclasses import dataclass
from typing import Any, Callable

_TRIES, _AGAIN_S = 20, 0.5  # somebody else may hold the lock on /etc/passwd while the machine boots
_UMASK = 0o022
_SUDOERS = "/etc/sudoers.d"
_PR_SET_NO_NEW_PRIVS = 38  # Source: prctl(2)
_CAPABILITY_VERSION_3 = 0x20080522  # Source: capset(2)


class AccountError(Exception):
    """There is no such user, and none can be made."""


@dataclass(frozen=True)
class Account:
    name: str
    uid: int
    gid: int
    home: str

    def environment(self) -> dict[str, str]:
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}

    def how(self, sudo: bool) -> dict[str, Any]:
        """For `subprocess.Popen`: as this user, and nobody else. Without sudo in no group but its own."""
        groups = os.getgrouplist(self.name, self.gid) if sudo else [self.gid]
        drop = _dropping(sudo)
        return {"user": self.uid, "group": self.gid, "extra_groups": groups, "umask": _UMASK, "preexec_fn": drop}

    def give(self, path: str) -> None:
        """A folder and all that is in it. Nobody else may be able to change it meanwhile."""
        os.chown(path, self.uid, self.gid)
        for folder, folders, files in os.walk(path):
            for name in (*folders, *files):
                os.lchown(os.path.join(folder, name), self.uid, self.gid)


def find(name: str) -> Account:
    """Raises: AccountError when there is none, or it is root."""
    try:
        row = pwd.getpwnam(name)
    except KeyError as error:
        raise AccountError(f"there is no user {name}") from error
    if row.pw_uid == 0:
        raise AccountError(f"the user {name} is root")
    return Account(row.pw_name, row.pw_uid, row.pw_gid, row.pw_dir)


def make(name: str) -> Account:
    """Find it, or make it with a home of its own. Raises: AccountError."""
    for left in range(_TRIES - 1, -1, -1):
        with contextlib.suppress(AccountError):
            return find(name)
        words = ["useradd", "--create-home", "--user-group", "--shell", "/bin/sh", name]
        try:
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        except OSError as error:
            raise AccountError(f"cannot make the user {name}: useradd: {error.strerror}") from error
        if done.returncode == 0:
            break
        if not left:
            raise AccountError(f"cannot make the user {name}: {done.stderr.decode('utf-8', 'replace').strip()}")
        time.sleep(_AGAIN_S)
    return find(name)


def allow_sudo(account: Account, allowed: bool) -> None:
    """Root's rights without a password, or none of ours. Where there is no sudo, there is nothing to allow."""
    path = os.path.join(_SUDOERS, f"gpu-runner-{account.name}")
    if not allowed or not os.path.isdir(_SUDOERS):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    part = f"{path}.part"  # with a dot sudo passes it over. Source: sudoers(5).
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o440), "w") as file:
        file.write(f"{account.name} ALL=(ALL:ALL) NOPASSWD: ALL\n")
    os.replace(part, path)


def _dropping(sudo: bool) -> Callable[[], None]:
    """Run between fork and exec, as the user already: no inherited capability, and none to be had without sudo."""
    libc = ctypes.CDLL(None, use_errno=True)
    head, none = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()

    def drop() -> None:
        if libc.capset(head, none) != 0 or (not sudo and libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0):
            raise OSError(ctypes.get_errno(), "cannot give up root's rights")

    return drop
