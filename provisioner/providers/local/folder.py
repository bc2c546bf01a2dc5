"""The machines of one computer: processes, each with a folder of its own below one that is theirs.

A machine's folder has `machine.json` (what it is and whose), `process.json` (its respawn loop), `state` (the agent's
own 0700 folder) and `console.log`. A terminated name leaves a tombstone, so that a launch still in flight cannot bring
it back. Only the standard library of Python 3.9 is used, and nothing of ours but `processes`: this very file is also
run on other computers.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from . import processes

_KEPT = ("HOME", "PATH", "LANG", "LC_ALL", "USER", "LOGNAME", "TZ", "TMPDIR", "CUDA_VISIBLE_DEVICES")
_TOMBSTONES_KEPT = 1000


class MachineFolder:
    """`path` is made when it is missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._gone = path / ".gone"
        self._gone.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._children: list[subprocess.Popen[bytes]] = []

    def launch(
        self,
        described: Mapping[str, Any],
        config: str,
        agent: Path,
        *,
        environment: Mapping[str, str] | None = None,
        owner: tuple[int, int] | None = None,
        python: str = sys.executable,
    ) -> dict[str, Any] | None:
        """What is kept of the machine `described["name"]`, started unless it was before; None when it was ended before.
        `owner` is whose processes they are, `python` what runs the agent. Raises: OSError."""
        name = described["name"]
        folder = self.path / name
        with self._locked(name):
            if self.ended(name):
                return None
            if not (folder / "machine.json").exists():
                (folder / "state").mkdir(parents=True, exist_ok=True, mode=0o700)
                _write(folder / "state" / "config.json", config)
                if owner is not None:  # and what lies beside them is ours
                    os.chown(folder / "state", *owner)
                    os.chown(folder / "state" / "config.json", *owner)
                _write(folder / "machine.json", json.dumps(dict(described)))
            if not self.started(name) and not processes.members(name, None):
                words = [python, "-I", str(agent), "respawn", str(folder / "state")]
                self._spawn(name, words, {**_here(), **(environment or {})}, owner)
            return self.described(name)

    def described(self, name: str) -> dict[str, Any]:
        return _read(self.path / name / "machine.json")

    def tag(self, name: str, key: str, value: str) -> bool:
        """Whether a machine of that name is there, which then has the tag. Raises: OSError."""
        with self._locked(name):
            if self.ended(name) or not (self.path / name / "machine.json").exists():
                return False
            kept = self.described(name)
            kept["tags"].setdefault(key, value)
            _write(self.path / name / "machine.json", json.dumps(kept))
            return True

    def ended(self, name: str) -> bool:
        return (self._gone / name).exists()

    def started(self, name: str) -> bool:
        """Whether it ever had a process: one that is being launched has none yet."""
        return (self.path / name / "process.json").exists()

    def living(self) -> list[dict[str, Any]]:
        """Of each machine any process of which lives, what was kept of it. A folder alone costs nothing and cannot come
        back by itself. Raises: OSError, ValueError."""
        self._children = [child for child in self._children if child.poll() is None]
        names = sorted(entry.name for entry in os.scandir(self.path) if not entry.name.startswith("."))
        return [self.described(name) for name in names if self._lives(name)]

    def all(self) -> list[dict[str, Any]]:
        """Of each machine that has not been ended yet, whether it lives or not. Raises: OSError."""
        names = sorted(entry.name for entry in os.scandir(self.path) if not entry.name.startswith("."))
        return [self.described(name) for name in names if (self.path / name / "machine.json").exists()]

    def console(self, name: str, most_bytes: int) -> str:
        """The end of what it printed; "" of what never was. Raises: OSError."""
        try:
            with (self.path / name / "console.log").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - most_bytes))
                return file.read(most_bytes).decode(errors="replace")
        except FileNotFoundError:
            return ""

    def end(self, name: str, last: Callable[[Mapping[str, Any]], None] | None = None) -> bool:
        """Whether nothing of it is left. `last` is done with what was kept of it, once its processes are gone, and
        again if that broke off. Raises: OSError."""
        with self._locked(name):
            (self._gone / name).touch()
            folder = self.path / name
            if not processes.end(name, _root(folder)):
                return False
            if last is not None and (folder / "machine.json").exists():
                last(self.described(name))
            shutil.rmtree(folder, ignore_errors=True)
            self._forget_old_tombstones()
            return True

    def _spawn(
        self, name: str, words: list[str], environment: Mapping[str, str], owner: tuple[int, int] | None
    ) -> None:
        folder = self.path / name
        whose: dict[str, Any] = {"user": owner[0], "group": owner[1], "extra_groups": []} if owner else {}
        with (folder / "console.log").open("ab") as console:
            child = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                cwd=folder,
                env={**environment, processes.MARKER: name},
                start_new_session=True,
                **whose,
            )
        self._children.append(child)
        born = processes.process(child.pid)
        mark = {"pid": child.pid, "started": born.started if born else 0, "boot_id": processes.boot_id()}
        _write(folder / "process.json", json.dumps(mark))

    def _lives(self, name: str) -> bool:
        folder = self.path / name
        if not (folder / "machine.json").exists():
            return False
        root = _root(folder)
        now = processes.process(root.pid) if root else None
        if root is not None and now is not None and now.started == root.started and not now.zombie:
            return True
        return bool(processes.members(name, root))

    def _forget_old_tombstones(self) -> None:
        stones = sorted(os.scandir(self._gone), key=lambda entry: entry.stat().st_mtime)
        for old in stones[:-_TOMBSTONES_KEPT]:
            os.unlink(old.path)

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """One caller at a time for one name, across processes."""
        path = self.path / f".{name}.lock"
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
            if self.ended(name):
                path.unlink(missing_ok=True)


def _here() -> dict[str, str]:
    return {key: os.environ[key] for key in _KEPT if key in os.environ}


def _root(folder: Path) -> processes.Process | None:
    """The respawn loop that was started, unless that was before this boot."""
    try:
        mark = _read(folder / "process.json")
    except (OSError, ValueError):
        return None
    if mark["boot_id"] != processes.boot_id():
        return None
    return processes.Process(mark["pid"], 0, mark["started"], zombie=False)


def _read(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def _write(path: Path, text: str) -> None:
    """All of it or nothing, readable by us alone."""
    part = path.with_name(path.name + ".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    part.replace(path)
