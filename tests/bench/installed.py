"""The product as a user installs it: a virtual environment with the base requirements and nothing else.

Each state of the sources has an environment of its own, so that two benchmarks do not pull one away from under the
other; those that nobody has used for a day go.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
VENVS = TOP / ".cache/bench"
_KEPT_S = 86400.0


@functools.cache
def runner() -> Path:
    """The `runner` command of an installation of this very tree."""
    venv = VENVS / _digest()
    if not (venv / "installed").exists():
        _forget_old()
        shutil.rmtree(venv, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        pip = [str(venv / "bin/pip"), "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "--require-hashes", "-r", str(TOP / "provisioner/requirements.txt")], check=True)
        subprocess.run([*pip, "--no-deps", "--no-build-isolation", str(TOP)], check=True)
        (venv / "installed").touch()
    os.utime(venv)
    return venv / "bin/runner"


def python() -> Path:
    return runner().with_name("python")


def _forget_old() -> None:
    for venv in VENVS.glob("*"):
        if time.time() - venv.stat().st_mtime > _KEPT_S:
            shutil.rmtree(venv)


def _digest() -> str:
    digest = hashlib.sha256()
    for path in sorted([*TOP.glob("provisioner/**/*"), *TOP.glob("agent/**/*"), TOP / "pyproject.toml"]):
        if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in path.relative_to(TOP).parts):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
