"""A driver library for computers without a GPU, compiled from `libcuda.c`, which says how it fails."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def missing() -> str:
    """Why it cannot be made here; empty when it can."""
    return "" if shutil.which("gcc") else "no gcc here to compile the stub driver library"


def compiled(folder: Path) -> Path:
    """A folder for LD_LIBRARY_PATH."""
    made = folder / "driver"
    made.mkdir(exist_ok=True)
    words = ["gcc", "-shared", "-fPIC", "-O1", "-w", "-o", str(made / "libcuda.so.1")]
    subprocess.run([*words, str(Path(__file__).with_suffix(".c"))], check=True, capture_output=True)
    return made
