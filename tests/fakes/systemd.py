"""A stand-in for systemd that reads unit files and does what they say: enough of it for a service that is killed,
restarted, or found again after a reboot.

`Host` boots a computer in process and mount namespaces of its own, whose first process this is
(`python -m tests.fakes.systemd FOLDER BOOTCMD`). At every boot it runs the boot commands, as cloud-init would, and
starts the units that are enabled; `systemctl` on its PATH is how it is asked. What it does not know in a unit file it
refuses. A process belongs to the unit of its parent, whatever becomes of the parent, as with control groups.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from .booting import missing

__all__ = ["Host", "missing"]
UNITS = Path("/etc/systemd/system")
# Key -> the values that are known; None: any. Source: systemd.service(5), systemd.kill(5), systemd.unit(5).
KNOWN: dict[str, set[str] | None] = {
    "Description": None,
    "StartLimitIntervalSec": {"0"},
    "ExecStart": None,
    "Restart": {"no", "always", "on-failure"},
    "RestartSec": None,
    "KillMode": {"control-group", "process"},
    "OOMScoreAdjust": None,
    "StandardOutput": None,
    "StandardError": None,
    "WantedBy": {"multi-user.target"},
}
_SYSTEMCTL = '#!/bin/sh\necho "$*" >> {folder}/asked\n'
_TICK_S = 0.02
_STOP_S = 5.0  # systemd waits 90 s


def parsed(text: str) -> dict[str, str]:
    """Raises: ValueError for what this stand-in does not know."""
    found = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("["):
            allowed = KNOWN.get(key, set())
            if allowed is not None and value not in allowed:
                raise ValueError(f"the stand-in does not know {line!r}")
            found[key] = value
    return found


@dataclass
class Unit:
    name: str
    words: dict[str, str]
    main: int = 0
    again_at: float | None = None
    stopped: bool = False
    pids: set[int] = field(default_factory=set)

    @property
    def whole_group(self) -> bool:
        return self.words.get("KillMode", "control-group") == "control-group"


class Manager:
    """The first process. `turn` again and again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._units: dict[str, Unit] = {}
        self._heard = 0

    def turn(self) -> None:
        self._listen()
        self._attribute()
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                self._ended(*found)
        for unit in self._units.values():
            if unit.again_at is not None and time.monotonic() >= unit.again_at:
                self.start(unit.name)

    def start(self, name: str) -> None:
        unit = self._units.setdefault(name, Unit(name, {}))
        if unit.main:
            return
        unit.words = unit.words or parsed((UNITS / name).read_text())
        if unit.whole_group:
            self._kill(unit)
        child = subprocess.Popen(shlex.split(unit.words["ExecStart"]), stdin=subprocess.DEVNULL, start_new_session=True)
        child.returncode = 0
        unit.main, unit.again_at, unit.stopped = child.pid, None, False
        unit.pids.add(child.pid)

    def stop(self, name: str) -> None:
        unit = self._units[name]
        unit.stopped = True
        targets = unit.pids if unit.whole_group else {unit.main}
        _signal(targets, signal.SIGTERM)
        until = time.monotonic() + _STOP_S
        while unit.main and time.monotonic() < until:
            self.turn()
            time.sleep(_TICK_S)
        _signal({unit.main} - {0}, signal.SIGKILL)
        if unit.whole_group:
            self._kill(unit)

    def _kill(self, unit: Unit) -> None:
        _signal(unit.pids, signal.SIGKILL)
        unit.pids.clear()

    def _ended(self, pid: int, status: int) -> None:
        for unit in self._units.values():
            unit.pids.discard(pid)
            if unit.main == pid:
                unit.main = 0
                failed = os.waitstatus_to_exitcode(status) != 0
                policy = unit.words.get("Restart", "no")
                if not unit.stopped and (policy == "always" or (policy == "on-failure" and failed)):
                    unit.again_at = time.monotonic() + float(unit.words.get("RestartSec", "0.1"))

    def _attribute(self) -> None:
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError, IndexError):
                    stat = (entry / "stat").read_text()
                    parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
        for unit in self._units.values():
            unit.pids &= parents.keys()
            while new := {pid for pid, parent in parents.items() if parent in unit.pids and pid not in unit.pids}:
                unit.pids |= new

    def _listen(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            lines = (self._folder / "asked").read_text().splitlines()
            for line in lines[self._heard :]:
                self._heard += 1
                self._do(*(word for word in line.split() if not word.startswith("--")))

    def _do(self, verb: str, *names: str) -> None:
        if verb == "daemon-reload":
            for unit in self._units.values():
                unit.words = parsed((UNITS / unit.name).read_text())
        for name in names:
            if verb == "enable":
                parsed((UNITS / name).read_text())
                (self._folder / "enabled" / name).touch()
            elif verb == "start":
                self.start(name)
            elif verb == "restart":
                self.stop(name)
                self.start(name)
            elif verb == "kill":
                _signal({self._units[name].main} - {0}, signal.SIGKILL)
            else:
                raise ValueError(f"the stand-in does not know systemctl {verb}")


def _signal(pids: set[int], number: int) -> None:
    for pid in list(pids):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def main(folder: Path, bootcmd: list[list[str]]) -> None:
    """Boot, then look after units for ever."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    os.makedirs("/run/systemd/system")
    subprocess.run(["mount", "--bind", str(folder / "units"), str(UNITS)], check=True)
    (folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
    subprocess.run(["mount", "--bind", str(folder / "boot_id"), "/proc/sys/kernel/random/boot_id"], check=True)
    (folder / "asked").unlink(missing_ok=True)
    manager = Manager(folder)
    for command in bootcmd:
        subprocess.run([sys.executable, *command[1:]] if command[0] == "python3" else command, check=True)
    for enabled in sorted((folder / "enabled").iterdir()):
        manager.start(enabled.name)
    while True:
        manager.turn()
        time.sleep(_TICK_S)


class Host:
    """`bootcmd` as cloud-config has it. Its disk is the folder: what is written there is there after a reboot."""

    def __init__(self, folder: Path, bootcmd: list[list[str]], environment: dict[str, str]) -> None:
        self.folder = folder
        self._bootcmd = bootcmd
        self._environment = {**environment, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("units", "enabled"):
            (folder / name).mkdir(parents=True)
        systemctl = folder / "bin/systemctl"
        systemctl.parent.mkdir(exist_ok=True)
        systemctl.unlink(missing_ok=True)
        systemctl.write_text(_SYSTEMCTL.format(folder=folder))
        systemctl.chmod(0o755)

    def boot(self) -> None:
        words = ["unshare", "-m", "-p", "-f", "--mount-proc", "--kill-child", sys.executable, "-m", __name__]
        path = f"{self.folder}/bin:{os.environ['PATH']}"
        with (self.folder / "console.log").open("ab") as console:
            self._process = subprocess.Popen(
                [*words, str(self.folder), json.dumps(self._bootcmd)],
                env={**self._environment, "PATH": path},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                cwd="/",
                start_new_session=True,
            )

    def halt(self) -> None:
        """The plug is pulled."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)

    def systemctl(self, *words: str) -> None:
        """Asked for; it happens soon."""
        with (self.folder / "asked").open("a") as file:
            file.write(" ".join(words) + "\n")

    @property
    def console(self) -> str:
        return (self.folder / "console.log").read_text()


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
