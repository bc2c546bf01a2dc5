"""Which processes make up a local machine, and how to end all of them.

A machine is its respawn loop, everything below it (the loop is a child subreaper, so a double fork stays below), and
everything that carries its marker in the environment (which finds what outlived the loop).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

MARKER = "RUNNER_INSTANCE"
_PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """One line of the process table. `started` is in clock ticks since boot and tells a reused pid from the old one."""

    pid: int
    parent: int
    started: int
    zombie: bool


def boot_id() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def process(pid: int) -> Process | None:
    """The process as it is now; None when there is none."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return Process(pid, int(fields[1]), int(fields[19]), fields[0] in "ZX")


def members(name: str, root: Process | None) -> list[Process]:
    """Living processes of machine `name`, its respawn loop `root` included when that still runs; children first."""
    table = {p.pid: p for entry in os.listdir(_PROC) if entry.isdigit() and (p := process(int(entry)))}
    mark = f"{MARKER}={name}".encode()
    found = {pid for pid in table if pid != os.getpid() and _marked(pid, mark)}
    if root is not None and (now := table.get(root.pid)) is not None and now.started == root.started:
        found.add(root.pid)
    grown = True
    while grown:
        below = {pid for pid, p in table.items() if p.parent in found}
        grown = not below <= found
        found |= below
    living = [table[pid] for pid in found if not table[pid].zombie]
    return sorted(living, key=lambda p: (root is not None and p.pid == root.pid, -p.started))


def end(name: str, root: Process | None, *, patience_s: float = 10.0) -> bool:
    """Kill the machine, its loop last so that nothing escapes from under it. True once nothing is left."""
    deadline = time.monotonic() + patience_s
    while left := members(name, root):
        below = [p for p in left if root is None or p.pid != root.pid] or left
        for victim in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim.pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def _marked(pid: int, mark: bytes) -> bool:
    try:
        environment = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return False
    return mark in environment.split(b"\0")
