"""What this host has to offer: read once, because it does not change while a controller runs (free disk apart)."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from provisioner.domain.gpu import Gpu, from_driver

_ASK = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]


@dataclass(frozen=True, slots=True)
class HostFacts:
    cpus: int
    memory_gib: float
    disk_gib: float
    gpu: Gpu | None
    arch: str


def facts(folder: Path) -> HostFacts:
    """`disk_gib` is what is free where machines live."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return HostFacts(
        cpus=os.cpu_count() or 1,
        memory_gib=pages / 2**30,
        disk_gib=shutil.disk_usage(folder).free / 2**30,
        gpu=gpus(),
        arch=platform.machine(),
    )


@functools.cache
def gpus() -> Gpu | None:
    """Asked of the driver's own tool in a child process, because a broken driver can hang whoever calls into it."""
    with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
        answer = subprocess.run(_ASK, capture_output=True, text=True, timeout=10, check=True).stdout
        return from_driver(answer)
    return None
