"""One attempt as it is on the disk, and what is said of it to the controller.

The folder `attempts/JOB-NUMBER` is all that survives a kill: `order.json` (no secrets), the supervisor's files
(`supervisor.json`, `state.json`, `exit.json`, `spool/`), and ours: `agent.json` (what has been done so far). An attempt
is `starting` until its supervisor's mark is there, then what the supervisor says, `syncing` once it has exited, and
`ended` when its log is safe and its results are stored, or when waiting for that was given up.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import threading
import uuid
from typing import Any, Optional

from . import hooks, wire, workload
from .config import Home, boottime
from .files import content, read_json, write_json
from .spool import SpoolReader

_FULL_BYTES = 2**16  # less room than this is none; arbitrary
_HARDER = ("kindly", "firmly", "now")
_SAFE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$")


class Attempt:
    """Shared by all duties; each writes only its own part of `done`."""

    def __init__(self, home: Home, order: wire.Order) -> None:
        self.order = order
        self.key = f"{order.job}/{order.number}"
        self.folder = os.path.join(home.attempts, f"{order.job}-{order.number}")
        self.workspace = os.path.join(home.work, f"{order.job}-{order.number}")
        self.spool = SpoolReader(os.path.join(self.folder, "spool"))
        self.cancel = ""
        self.forget = False
        self.preparing = False
        self.log_received = 0
        self.log_safe = 0
        self.log_trouble = ""  # why the controller does not take it now
        self.log_lost = ""  # why it never will
        self.exited_at: Optional[float] = None
        self.state: dict[str, Any] = {}
        self._lock = threading.Lock()
        self.done: dict[str, Any] = read_json(os.path.join(self.folder, "agent.json")) or {"facts": {}}
        self.mark = read_json(os.path.join(self.folder, "supervisor.json"))
        self.exit: Optional[dict[str, Any]] = None
        self.look()

    def create(self) -> None:
        """On the disk, its order without secrets. The folder is made whole, then given its name."""
        part = f"{self.folder}.{uuid.uuid4().hex}.new"
        os.makedirs(part, mode=0o700)
        write_json(os.path.join(part, "order.json"), dataclasses.asdict(dataclasses.replace(self.order, secrets={})))
        os.rename(part, self.folder)

    def look(self) -> bool:
        """Read what the supervisor has written since. Whether anything that is told to the controller changed."""
        before = self.shown
        if self.mark is None:
            self.mark = read_json(os.path.join(self.folder, "supervisor.json"))
        if self.exit is None:
            self.state = read_json(os.path.join(self.folder, "state.json")) or self.state
            self.exit = read_json(os.path.join(self.folder, "exit.json"))
        if self.exit is not None and self.exited_at is None:
            self.exited_at = boottime()
        return before != self.shown

    @property
    def shown(self) -> tuple[object, ...]:
        """All that the controller is to hear of at once when it changes."""
        return self.phase, self.exit is None, self.state.get("waits_for", ""), _news_of(self.state.get("runner"))

    def note(self, **parts: Any) -> None:
        """Remember parts of what has been done; `facts` are added to those that are there."""
        with self._lock:
            facts = {**self.done.get("facts", {}), **parts.pop("facts", {})}
            self.done = {**self.done, **parts, "facts": facts}
            if os.path.isdir(self.folder):
                write_json(os.path.join(self.folder, "agent.json"), self.done, durable="ended" in parts)

    def befell(self, event: wire.GpuEvent, most: int) -> bool:
        """Remember the first of each kind, and no more than `most`. Whether it is told. One caller at a time."""
        known = self.done.get("gpu_events", [])
        if len(known) >= most or any((e["what"], e["gpu"], e["code"]) == event.kind for e in known):
            return False
        self.note(gpu_events=[*known, dataclasses.asdict(event)])
        return True

    @property
    def ended(self) -> bool:
        return "ended" in self.done

    @property
    def phase(self) -> str:
        if self.ended:
            return "ended"
        if self.exit is not None:
            return "syncing"
        if self.mark is None:
            return "starting"
        said = self.state.get("phase", "starting")
        return said if said in ("starting", "setup", "running") else "running"

    @property
    def living(self) -> bool:
        """Whether its supervisor runs."""
        mark = self.mark
        return bool(mark and mark.get("boot_id") == workload.boot_id() and workload.alive(mark["pid"], mark["started"]))

    @property
    def producing(self) -> bool:
        return self.mark is not None and self.exit is None

    def fail(self, why: str, detail: str, **more: Any) -> None:
        """It ends without, or after the loss of, its supervisor."""
        value = {"exit_code": None, "why": why, "detail": detail, "log_size": self.spool.size(), "timings": {}, **more}
        write_json(os.path.join(self.folder, "exit.json"), value, durable=True)
        self.look()

    def control(self, word: str) -> None:
        """Tell the supervisor to stop: "kindly", "firmly" (a runner's CI job as well) or "now". Never softer than
        before."""
        path = os.path.join(self.folder, "control")
        if content(path) in _HARDER[_HARDER.index(word) :]:
            return
        part = f"{path}.part"
        with open(part, "w") as file:
            file.write(word)
        os.replace(part, path)

    def said(self) -> wire.AttemptState:
        """What is, for the controller."""
        events = [wire.GpuEvent(**one) for one in self.done.get("gpu_events", [])]
        runner = self._runner()
        if self.ended:
            return wire.AttemptState(**self.done["ended"], gpu_events=events, runner=runner)
        facts = dict(self.done["facts"])
        about = (self.order.job, self.order.number, self.phase)
        said = wire.AttemptState(*about, facts=facts, gpu_events=events, runner=runner)
        if self.exit is not None:
            return dataclasses.replace(said, **{part: self.exit[part] for part in ("exit_code", "why", "detail")})
        if waits := self._waits():
            said.facts["waits_for"] = waits
        return said

    def _runner(self) -> Optional[wire.RunnerState]:
        """What it does as a forge's runner, once it is one."""
        state = (self.exit or {}).get("runner") or self.state.get("runner")
        if not self.order.runner or not state:
            return None
        idle_s = round(max(0.0, boottime() - state["since"]), 3) if state["phase"] == "waiting" else 0.0
        return wire.RunnerState(state["phase"], idle_s, state["jobs"], state["job"])

    def _waits(self) -> str:
        """What its output waits for room in. A supervisor on a full disk cannot leave word of it."""
        try:
            disk = os.statvfs(self.folder)
        except OSError:
            return ""
        return self.state.get("waits_for") or ("disk" if disk.f_bavail * disk.f_frsize < _FULL_BYTES else "")

    def unsent_bytes(self) -> int:
        return 0 if self.ended else max(0, self.spool.size() - self.log_safe)

    def delete(self) -> None:
        """Folder and workspace. A kill in between leaves `.trash` folders, which the next start removes."""
        for path in (self.workspace, hooks.folder_of(self.workspace), self.folder):
            trash(path)


def _news_of(runner: Optional[dict[str, Any]]) -> Optional[tuple[str, int]]:
    return (runner["phase"], runner["jobs"]) if runner else None


def safe(order: wire.Order) -> bool:
    """Whether the order's name can be a folder's."""
    return bool(_SAFE.match(order.job)) and order.number > 0


def load_all(home: Home) -> list[Attempt]:
    """Every attempt on the disk. What never got as far as a supervisor is removed: its secrets are gone with the agent
    that held them, and the controller, which was not told of it, will order it again."""
    found = []
    for name in sorted(os.listdir(home.attempts)):
        folder = os.path.join(home.attempts, name)
        if name.endswith((".trash", ".new")):
            shutil.rmtree(folder, ignore_errors=True)
            continue
        raw = read_json(os.path.join(folder, "order.json"))
        started = any(os.path.exists(os.path.join(folder, one)) for one in ("supervisor.json", "exit.json"))
        if raw is None or not started:
            _kill_strays(folder)
            trash(os.path.join(home.work, name))
            trash(hooks.folder_of(os.path.join(home.work, name)))
            trash(folder)
            continue
        found.append(Attempt(home, wire.decode(wire.Order, json.dumps(raw).encode())))
    for name in os.listdir(home.work):
        if name.endswith(".trash"):
            remove(os.path.join(home.work, name))
    return found


def trash(path: str) -> None:
    hidden = f"{path}.{uuid.uuid4().hex}.trash"
    try:
        os.rename(path, hidden)
    except FileNotFoundError:
        return
    remove(hidden)


def remove(path: str) -> None:
    """A tree whose owner may have made it hard to delete."""

    def open_up(_: Any, failed: str, __: Any) -> None:
        with contextlib.suppress(OSError):
            os.chmod(os.path.dirname(failed), 0o700)
            os.chmod(failed, 0o700)
            shutil.rmtree(failed) if os.path.isdir(failed) else os.unlink(failed)

    shutil.rmtree(path, onerror=open_up)


def _kill_strays(folder: str) -> None:
    """A supervisor that was begun and had not left its mark when its agent was killed."""
    words = [b"supervise", os.fsencode(folder)]
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/cmdline", "rb") as file:
                line = file.read().split(b"\0")
                if line[-3:-1] == words:
                    workload.signal_all([int(entry)], 9)
