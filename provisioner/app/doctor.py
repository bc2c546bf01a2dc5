"""`runner doctor`: what is fine and what is not, each line with what to do about it."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path

from provisioner.domain.errors import InvalidRequest, RunnerError
from provisioner.forges.registry import known
from provisioner.providers.local import host
from provisioner.providers.registry import NAMES
from provisioner.settings import load, secret_key

from .home import Home

Line = tuple[bool | None, str]
_LEAST_FREE_GIB = 1.0


def examine(path: Path, provider: str) -> list[Line]:
    """Raises: InvalidRequest for a provider that nobody here knows."""
    if provider and provider not in NAMES:
        raise InvalidRequest(f"unknown provider {provider!r}", hint=f"known: {', '.join(NAMES)}")
    home = Home(path)
    lines: list[Line] = [_python()]
    try:
        home.make()
        lines += [(True, f"home {home.path} can be used"), _disk(home), _settings(home), _key(home), _controller(home)]
    except RunnerError as error:
        lines.append((False, f"{error.message}; {error.hint}"))
    if provider == "aws":
        from .doctor_aws import lines as of_aws

        lines += of_aws(home)
    lines += [_tool("git", "working directories are packed without knowing what git ignores"), _gpu()]
    return lines


def _python() -> Line:
    version = ".".join(map(str, sys.version_info[:3]))
    return sys.version_info >= (3, 11), f"Python {version}"


def _disk(home: Home) -> Line:
    free_gib = shutil.disk_usage(home.path).free / 2**30
    return free_gib >= _LEAST_FREE_GIB, f"{free_gib:.1f} GiB free for logs and results"


def _settings(home: Home) -> Line:
    settings = load(home.path, os.environ, known())
    settings.make_policy()
    return True, f"settings: at most {settings.max_instances} machines and ${settings.max_usd_per_hour:f}/h"


def _key(home: Home) -> Line:
    secret_key(home.path, os.environ)
    return True, "the secret key is " + ("RUNNER_SECRET_KEY" if os.environ.get("RUNNER_SECRET_KEY") else "in the home")


def _controller(home: Home) -> Line:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(home.control_socket))
        except OSError:
            return None, "no controller runs here; the next command that needs one starts it"
    return True, f"a controller answers at {home.control_socket}"


def _tool(name: str, without: str) -> Line:
    found = shutil.which(name)
    return (True, f"{name} is {found}") if found else (None, f"{name} is not installed: {without}")


def _gpu() -> Line:
    gpu = host.gpus()
    return (True, f"{gpu.count} x {gpu.name}, {gpu.memory_gb:g} GB each") if gpu else (None, "no NVIDIA GPU here")
