"""Timing of whole processes, and how figures are printed.

A child's peak memory includes that of the process which started it, up to the moment of exec; so children are started
by an interpreter of their own that is smaller than anything measured here.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_STARTER = """
import os, sys, time
times, command = int(sys.argv[1]), sys.argv[2:]
nothing = os.open(os.devnull, os.O_RDWR)
rows = []
for _ in range(times):
    began = time.perf_counter()
    actions = [(os.POSIX_SPAWN_DUP2, nothing, n) for n in (0, 1)]
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    rows.append([time.perf_counter() - began, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status)])
print(rows)
"""


@dataclass(frozen=True)
class Runs:
    """Several runs of one command: wall times in seconds and the largest peak of memory in MiB."""

    seconds: tuple[float, ...]
    peak_mib: float

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        low, high = min(self.seconds), max(self.seconds)
        return f"{self.median_s * 1e3:.0f} ms ({low * 1e3:.0f} to {high * 1e3:.0f}), peak {self.peak_mib:.0f} MiB"


def runs(command: Sequence[str], times: int = 15, environment: Mapping[str, str] | None = None) -> Runs:
    """Run a command (its program an absolute path) again and again. Raises: RuntimeError when it fails."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _STARTER, str(times), *command],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = json.loads(done.stdout)
    if any(code for _, _, code in rows):
        raise RuntimeError(f"{command} failed: {rows}\n{done.stderr[-2000:]}")
    return Runs(tuple(row[0] for row in rows), max(row[1] for row in rows))


def resident_mib(pid: int) -> float:
    """Memory of a process now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def cpu_s(pid: int) -> float:
    """Processor time that a process has used, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def machine() -> str:
    """The computer in words, without its name."""
    model = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")), ":?")
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    cores = f"{os.cpu_count()} cores ({model.partition(':')[2].strip()})"
    return f"{cores}, {memory_gib:.0f} GiB, Python {sys.version.split()[0]}"


def say(what: str, value: str, limit: str = "") -> None:
    """One figure on a line of its own."""
    print(f"{what:<58} {value}{f'   [to reach: {limit}]' if limit else ''}", flush=True)
