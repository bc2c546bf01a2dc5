"""Process trees: finding everything that a job started, however it tried to get away, and ending it.

A supervisor is a child subreaper: whatever its job forks, daemonises or moves to another session stays below it. When a
supervisor has died, a marker in the environment finds what is left; and what wiped its environment as well has become a
child of the respawn loop, where nothing else of that kind can be.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Collection
from typing import NamedTuple, Optional

MARKER = "RUNNER_ATTEMPT_KEY"
MACHINE = "RUNNER_INSTANCE"
_PR_SET_CHILD_SUBREAPER = 36  # Source: prctl(2)


class Process(NamedTuple):
    """`started` in clock ticks since boot: it tells a reused pid from the one that had it before."""

    pid: int
    parent: int
    started: int
    zombie: bool
    group: int = 0


def become_subreaper() -> None:
    """Orphans below this process become its children instead of init's."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def process(pid: int) -> Optional[Process]:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()
    # A process whose first thread has ended looks like a zombie while its other threads run on.
    zombie = fields[0] in (b"Z", b"X") and int(fields[17]) <= 1
    return Process(pid, int(fields[1]), int(fields[19]), zombie, int(fields[2]))


def alive(pid: int, started: int) -> bool:
    """Whether this very process still runs."""
    now = process(pid)
    return now is not None and now.started == started and not now.zombie


def descendants(of: Collection[int]) -> list[int]:
    """Living processes below any of `of`, not they themselves."""
    table = _table()
    return [pid for pid in _below(table, set(of)) if not table[pid].zombie]


def marked(key: str) -> list[int]:
    """Living processes of the attempt `key`, by the marker in their environment; this machine's only, if it has one."""
    marks = {f"{MARKER}={key}".encode()}
    if MACHINE in os.environ:
        marks.add(f"{MACHINE}={os.environ[MACHINE]}".encode())
    living = (pid for pid, one in _table().items() if not one.zombie and pid != os.getpid())
    return [pid for pid in living if marks <= set(_words(pid, "environ"))]


def strays() -> list[int]:
    """Living processes below this agent's respawn loop that are neither the agent's nor a living supervisor's."""
    loop = os.getppid()
    if not _is(loop, "respawn"):
        return []
    table = _table()
    roots = {pid for pid, one in table.items() if one.parent == loop and pid != os.getpid()}
    roots = {pid for pid in roots if not _is(pid, "supervise")}
    return [pid for pid in [*roots, *_below(table, roots)] if not table[pid].zombie]


def kill_attempt(key: str, patience_s: float = 10.0) -> bool:
    """End all that a dead supervisor left behind, itself included. True once nothing is left."""
    deadline = time.monotonic() + patience_s
    while True:
        found = set(marked(key))
        found |= set(descendants(found)) | set(strays())
        found.discard(os.getpid())
        if not found:
            return True
        signal_all(found, signal.SIGKILL)
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)


def ask_to_end(root: int, group: int) -> None:
    """SIGTERM for everything below `root`, once each: the process group at one stroke, then whoever has left it."""
    table = _table()
    below = [pid for pid in _below(table, {root}) if not table[pid].zombie]
    if any(table[pid].group == group for pid in below):
        _signal(os.killpg, group, signal.SIGTERM)
    signal_all([pid for pid in below if table[pid].group != group], signal.SIGTERM)


def signal_all(pids: Collection[int], number: int) -> None:
    for pid in pids:
        _signal(os.kill, pid, number)


def _signal(send: object, target: int, number: int) -> None:
    try:
        send(target, number)  # type: ignore[operator]
    except (ProcessLookupError, PermissionError):
        return


def _below(table: dict[int, Process], of: set[int]) -> list[int]:
    """Parents before their children: a shell that goes first has no time to write that its child was killed."""
    children: dict[int, list[int]] = {}
    for one in table.values():
        children.setdefault(one.parent, []).append(one.pid)
    found: dict[int, None] = {}
    front = list(of)
    for parent in front:
        new = [child for child in children.get(parent, ()) if child not in found and child not in of]
        found.update(dict.fromkeys(new))
        front += new
    return list(found)


def _is(pid: int, command: str) -> bool:
    """Whether it is this program, run as `python -I agent.pyz COMMAND FOLDER`."""
    words = _words(pid, "cmdline")[:-1]
    return len(words) > 3 and words[1] == b"-I" and words[-2] == command.encode()


def _words(pid: int, what: str) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/{what}", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def _table() -> dict[int, Process]:
    found = (process(int(entry)) for entry in os.listdir("/proc") if entry.isdigit())
    return {one.pid: one for one in found if one is not None}
