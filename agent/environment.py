"""What a job finds around it: never the agent's own environment, always its own variables, secrets and marker."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .workload import MACHINE, MARKER

if TYPE_CHECKING:
    from . import wire

_KEPT = ("HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "CUDA_VISIBLE_DEVICES")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_COMPLETE = ".complete"
# Many images have Python without ensurepip, but with a pip that a virtual environment can use.
_MAKE_VENV = """
"$1" -m venv --clear --system-site-packages "$2" >/dev/null 2>&1 && exit
"$1" -m venv --clear --without-pip --system-site-packages "$2" || exit
for name in pip pip3; do
    printf '#!/bin/sh\\nexec "%s/bin/python" -m pip "$@"\\n' "$2" > "$2/bin/$name" && chmod 755 "$2/bin/$name"
done
"""


def key(order: wire.Order) -> str:
    """What marks an attempt's processes."""
    return f"{order.job}/{order.number}"


def build(
    order: wire.Order, secrets: Mapping[str, str], workspace: str, resumed: bool, user: Mapping[str, str]
) -> dict[str, str]:
    """The whole environment of the job's first process. `user` is what is said of whom it runs as, if not of us."""
    env = {"HOME": os.path.expanduser("~"), "LANG": "C.UTF-8"}
    env.update({name: os.environ[name] for name in _KEPT if name in os.environ})
    env.update(user)
    env["PATH"] = order.shell_env.get("PATH") or os.environ.get("PATH") or _PATH
    if order.shell_env.get("VIRTUAL_ENV"):
        env["VIRTUAL_ENV"] = order.shell_env["VIRTUAL_ENV"]
    if order.tty:
        env["TERM"] = "xterm-256color"
    env.update(order.env)
    env.update(secrets)
    if not order.runner:  # a forge's runner passes its environment on to CI jobs, and has variables of these names
        env["PYTHONUNBUFFERED"] = order.env.get("PYTHONUNBUFFERED", "1")
        env["RUNNER_JOB_ID"] = order.job
        env["RUNNER_ATTEMPT"] = str(order.number)
        env["RUNNER_RESUMED"] = "1" if resumed else "0"
        env["RUNNER_WORKSPACE"] = workspace
        if order.checkpoint_path:
            env["RUNNER_CKPT_DIR"] = os.path.join(workspace, order.checkpoint_path)
    env[MARKER] = key(order)
    if MACHINE in os.environ:
        env[MACHINE] = os.environ[MACHINE]
    return env


def venv_for(order: wire.Order, workspace: str) -> str:
    """Where the virtual environment for this setup is, or ought to be; "" when the caller brought one of their own."""
    if order.shell_env.get("VIRTUAL_ENV"):
        return ""
    import hashlib

    named = hashlib.sha256(f"{order.setup}\0{_python(order)}\0{order.workspace}".encode()).hexdigest()[:16]
    return os.path.join(os.path.dirname(os.path.dirname(workspace)), "venvs", named)


def enter(env: dict[str, str], venv: str) -> None:
    env["VIRTUAL_ENV"] = venv
    env["PATH"] = os.path.join(venv, "bin") + ":" + env["PATH"]


def making(order: wire.Order, venv: str) -> list[str]:
    """The command that makes it, anew when an earlier one was never completed."""
    return ["/bin/sh", "-c", _MAKE_VENV, "sh", _python(order), venv]


def complete(venv: str) -> bool:
    """Whether a setup has once succeeded in it: what was killed half-way cannot be trusted. Said beside it, where the
    job has no say."""
    return os.path.exists(venv + _COMPLETE)


def mark_complete(venv: str) -> None:
    with open(venv + _COMPLETE, "w"):
        return


def _python(order: wire.Order) -> str:
    """The caller's or the machine's, found as the job would find it; without any, the agent's own."""
    path = order.env.get("PATH") or order.shell_env.get("PATH") or os.environ.get("PATH") or _PATH
    return os.path.realpath(shutil.which("python3", path=path) or sys.executable)
