"""Process trees: finding everything that a job started, however it tried to get away, and ending it.

A supervisor is a child subreaper: whatever its job forks, daemonises or moves to another session stays below it. When a
supervisor has died, a marker in the environment finds what is left.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from typing import Dict, List, NamedTuple, Optional, Set

MARKER = "RUNNER_ATTEMPT_KEY"
_PR_SET_CHILD_SUBREAPER = 36  # Source: prctl(2)


class Process(NamedTuple):
    """`started` in clock ticks since boot: it tells a reused pid from the one that had it before."""

    pid: int
    parent: int
    started: int
    zombie: bool


def become_subreaper() -> None:
    """Orphans below this process become its children instead of init's."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def process(pid: int) -> Optional[Process]:
    try:
        with open(f"/proc/{pid}/stat") as file:
            stat = file.read()
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return Process(pid, int(fields[1]), int(fields[19]), fields[0] in "ZX")


def alive(pid: int, started: int) -> bool:
    """Whether this very process still runs."""
    now = process(pid)
    return now is not None and now.started == started and not now.zombie


def descendants(of: Set[int]) -> List[int]:
    """Living processes below any of `of`, not they themselves."""
    table = _table()
    found: Set[int] = set()
    front = set(of)
    while front:
        front = {p.pid for p in table.values() if p.parent in front and p.pid not in found and p.pid not in of}
        found |= front
    return [pid for pid in found if not table[pid].zombie]


def marked(key: str) -> List[int]:
    """Living processes of the attempt `key`, by the marker in their environment."""
    mark = f"{MARKER}={key}".encode()
    found = []
    for pid, one in _table().items():
        if one.zombie or pid == os.getpid():
            continue
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if mark in file.read().split(b"\0"):
                    found.append(pid)
        except OSError:
            continue
    return found


def kill_attempt(key: str, patience_s: float = 10.0) -> bool:
    """End all that a dead supervisor left behind. True once nothing is left."""
    deadline = time.monotonic() + patience_s
    while True:
        found = set(marked(key))
        found |= set(descendants(found))
        if not found:
            return True
        signal_all(list(found), signal.SIGKILL)
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)


def signal_all(pids: List[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
        except PermissionError:
            continue


def _table() -> Dict[int, Process]:
    table = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            one = process(int(entry))
            if one is not None:
                table[one.pid] = one
    return table
