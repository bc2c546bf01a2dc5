"""The product as a user installs it: a virtual environment with the base requirements and nothing else."""

from __future__ import annotations

import functools
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
VENV = TOP / ".cache/bench-venv"


@functools.cache
def runner() -> Path:
    """The `runner` command of an installation of this very tree; made anew when a source has changed."""
    mark = VENV / "installed"
    wanted = _digest()
    if not mark.exists() or mark.read_text() != wanted:
        shutil.rmtree(VENV, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        pip = [str(VENV / "bin/pip"), "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "--require-hashes", "-r", str(TOP / "provisioner/requirements.txt")], check=True)
        subprocess.run([*pip, "--no-deps", "--no-build-isolation", str(TOP)], check=True)
        mark.write_text(wanted)
    return VENV / "bin/runner"


def python() -> Path:
    return runner().with_name("python")


def _digest() -> str:
    digest = hashlib.sha256()
    for path in sorted([*TOP.glob("provisioner/**/*"), *TOP.glob("agent/**/*"), TOP / "pyproject.toml"]):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.read_bytes())
    return digest.hexdigest()
