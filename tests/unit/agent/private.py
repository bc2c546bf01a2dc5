"""A machine whose /etc and /home are its own, so that an agent can make users on it; its network is its own, too."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .machine import Box, box

_ENTER = """#!/bin/sh
exec unshare -m -n sh -c '
set -e
mount -t tmpfs tmpfs {folder}/layers
mkdir {folder}/layers/upper {folder}/layers/work
mount -t overlay overlay -o lowerdir=/etc,upperdir={folder}/layers/upper,workdir={folder}/layers/work /etc
mount -t tmpfs tmpfs /home
ip link set lo up
ip addr add 169.254.169.254/32 dev lo
exec {python} "$@"
' sh "$@"
"""


@functools.cache
def missing() -> str:
    """Why there can be none here; empty when there can."""
    if os.geteuid() != 0:
        return "users are made by root only"
    if not shutil.which("useradd"):
        return "no useradd here"
    try:
        subprocess.run(["unshare", "-m", "-n", "ip", "link", "set", "lo", "up"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no namespaces here: {error}"
    return ""


@contextlib.contextmanager
def private(**changes: Any) -> Iterator[Box]:
    """A box whose jobs run as the user `runner`. Its folder is one that anybody may pass through."""
    folder = Path(tempfile.mkdtemp(prefix="runner-box-"))
    folder.chmod(0o755)
    (folder / "layers").mkdir()
    (folder / "bin").mkdir()
    enter = folder / "python"
    enter.write_text(_ENTER.format(folder=folder, python=sys.executable))
    enter.chmod(0o755)
    try:
        with box(folder, user="runner", **changes) as machine:
            machine.python = str(enter)
            machine.path = f"{folder}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            yield machine
    finally:
        shutil.rmtree(folder, ignore_errors=True)
