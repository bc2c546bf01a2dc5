"""What a job finds around it: never the agent's own environment, always its own variables, secrets and marker."""

from __future__ import annotations

import hashlib
import os
from typing import Dict, Mapping

from . import wire
from .workload import MARKER

_KEPT = ("HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "RUNNER_INSTANCE", "CUDA_VISIBLE_DEVICES")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def build(order: wire.Order, secrets: Mapping[str, str], workspace: str, resumed: bool) -> Dict[str, str]:
    """The whole environment of the job's first process."""
    env = {name: os.environ[name] for name in _KEPT if name in os.environ}
    env["PATH"] = order.shell_env.get("PATH") or os.environ.get("PATH", _PATH)
    if order.shell_env.get("VIRTUAL_ENV"):
        env["VIRTUAL_ENV"] = order.shell_env["VIRTUAL_ENV"]
    env["PYTHONUNBUFFERED"] = "1"
    env.update(order.env)
    env.update(secrets)
    env["RUNNER_JOB_ID"] = order.job
    env["RUNNER_ATTEMPT"] = str(order.number)
    env["RUNNER_RESUMED"] = "1" if resumed else "0"
    env["RUNNER_WORKSPACE"] = workspace
    if order.checkpoint_path:
        env["RUNNER_CKPT_DIR"] = os.path.join(workspace, order.checkpoint_path)
    env[MARKER] = f"{order.job}/{order.number}"
    return env


def venv_for(order: wire.Order, folder: str) -> str:
    """Where the virtual environment for this setup is, or ought to be; "" when the caller brought one of their own."""
    if order.shell_env.get("VIRTUAL_ENV"):
        return ""
    state = os.path.dirname(os.path.dirname(folder))
    named = hashlib.sha256((order.setup + "\0" + order.shell_env.get("PATH", "")).encode()).hexdigest()[:16]
    return os.path.join(state, "venvs", named)
