"""The provider whose machines are processes on this host.

One folder a machine under `<home>/machines`: `machine.json` (what it is and whose), `process.json` (its respawn loop),
`state` (the agent's own 0700 folder), `console.log`. A terminated name leaves a tombstone, so that a launch still in
flight cannot bring it back. The agent is the same file that a rented machine gets, bootstrapped the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from provisioner.domain.errors import Rejected, Unreachable
from provisioner.domain.job import Need
from provisioner.domain.offer import LaunchOrder, Listing, Machine, MachineState, Market, Offer

from . import host, processes

_HERE = "local"
_TOMBSTONES_KEPT = 1000
_CONSOLE_BYTES = 2**16


class LocalProvider:
    """`machines` is the folder of all of them, which is one scope; `bundle` gives the path of agent.pyz; `usd_per_hour`
    is what an hour of this host is said to cost.

    `any_controller`: list the machines of every controller that used this home (to collect what has expired).
    """

    name = "local"
    visibility_s = 0.0

    def __init__(
        self,
        machines: Path,
        controller: str,
        bundle: Callable[[], Path],
        usd_per_hour: Decimal,
        *,
        scope: str = _HERE,
        any_controller: bool = False,
    ) -> None:
        self._machines = machines
        self._scope = scope
        self._gone = self._machines / ".gone"
        self._gone.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._controller = controller
        self._bundle = bundle
        self._usd_per_hour = usd_per_hour
        self._any_controller = any_controller
        self._children: list[subprocess.Popen[bytes]] = []

    def __repr__(self) -> str:
        return f"LocalProvider({self._machines})"

    async def offers(self, need: Need) -> Sequence[Offer]:
        facts = await asyncio.to_thread(host.facts, self._machines)
        return [
            Offer(
                provider=self.name,
                region=_HERE,
                zone=_HERE,
                instance_type="this-host",
                market=Market.ON_DEMAND,
                usd_per_hour=self._usd_per_hour,
                price_source="settings: local.usd_per_hour",
                scope=self._scope,
                cpus=facts.cpus,
                memory_gib=facts.memory_gib,
                disk_gib=facts.disk_gib,
                gpu=facts.gpu,
                arch=facts.arch,
            )
        ]

    async def launch(self, order: LaunchOrder) -> Machine:
        self._check(order.offer.scope)
        return await asyncio.shield(asyncio.to_thread(self._launch, order))

    async def machines(self) -> Sequence[Listing]:
        return [await asyncio.to_thread(self._list)]

    async def terminate(self, machine_ref: str, name: str, scope: str) -> None:
        self._check(scope)
        await asyncio.shield(asyncio.to_thread(self._terminate, name))

    async def console(self, machine_ref: str, name: str, scope: str) -> str:
        self._check(scope)
        return await asyncio.to_thread(self._console, name)

    def _console(self, name: str) -> str:
        try:
            with (self._machines / name / "console.log").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _CONSOLE_BYTES))
                return file.read(_CONSOLE_BYTES).decode(errors="replace")
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise Unreachable(f"this host refused: {error}") from error

    def _check(self, scope: str) -> None:
        """Machines of another host are its controller's to launch and to end."""
        if scope not in ("", self._scope):
            raise Unreachable(f"{scope} is not the machines that this controller has, {self._scope}")

    def _launch(self, order: LaunchOrder) -> Machine:
        folder = self._machines / order.name
        try:
            with self._locked(order.name):
                if (self._gone / order.name).exists():
                    return self._machine(_described(order), MachineState.STOPPING)
                if not (folder / "machine.json").exists():
                    (folder / "state").mkdir(parents=True, exist_ok=True, mode=0o700)
                    _write(folder / "state" / "config.json", order.config)
                    _write(folder / "machine.json", json.dumps(_described(order)))
                if not (folder / "process.json").exists() and not processes.members(order.name, None):
                    self._spawn(order.name, folder)
                return self._machine(_read(folder / "machine.json"), MachineState.RUNNING)
        except FileNotFoundError as error:
            raise Rejected(f"cannot start a process on this host: {error}") from error
        except OSError as error:
            raise Unreachable(f"this host refused: {error}") from error

    def _spawn(self, name: str, folder: Path) -> None:
        keep = ("HOME", "PATH", "LANG", "LC_ALL", "USER", "LOGNAME", "TZ", "TMPDIR", "CUDA_VISIBLE_DEVICES")
        environment = {key: os.environ[key] for key in keep if key in os.environ}
        environment[processes.MARKER] = name
        with (folder / "console.log").open("ab") as console:
            child = subprocess.Popen(
                [sys.executable, "-I", str(self._bundle()), "respawn", str(folder / "state")],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        self._children.append(child)
        born = processes.process(child.pid)
        mark = {"pid": child.pid, "started": born.started if born else 0, "boot_id": processes.boot_id()}
        _write(folder / "process.json", json.dumps(mark))

    def _list(self) -> Listing:
        taken_at = datetime.now(UTC)
        self._children = [child for child in self._children if child.poll() is None]
        try:
            names = sorted(entry.name for entry in os.scandir(self._machines) if not entry.name.startswith("."))
            machines = tuple(machine for name in names if (machine := self._look(name)) is not None)
        except (OSError, ValueError) as error:
            return Listing(self._scope, taken_at, error=f"cannot read {self._machines}: {error}")
        return Listing(self._scope, taken_at, machines)

    def _look(self, name: str) -> Machine | None:
        """The machine while any process of it lives. Its folder alone costs nothing and cannot come back by itself."""
        folder = self._machines / name
        if not (folder / "machine.json").exists():
            return None
        root = _root(folder)
        now = processes.process(root.pid) if root else None
        loop_lives = root is not None and now is not None and now.started == root.started and not now.zombie
        if not loop_lives and not processes.members(name, root):
            return None
        described = _read(folder / "machine.json")
        ours = self._any_controller or described["controller"] == self._controller
        return self._machine(described, MachineState.RUNNING) if ours else None

    def _machine(self, described: dict[str, Any], state: MachineState) -> Machine:
        return Machine(
            ref=described["name"],
            name=described["name"],
            controller=described["controller"],
            scope=self._scope,
            state=state,
            launched_at=datetime.fromisoformat(described["launched_at"]),
            tags=described["tags"],
        )

    def _terminate(self, name: str) -> None:
        try:
            with self._locked(name):
                (self._gone / name).touch()
                folder = self._machines / name
                if not processes.end(name, _root(folder)):
                    raise Unreachable(f"processes of {name} do not die; asked again later")
                shutil.rmtree(folder, ignore_errors=True)
                self._forget_old_tombstones()
        except OSError as error:
            raise Unreachable(f"this host refused: {error}") from error

    def _forget_old_tombstones(self) -> None:
        stones = sorted(os.scandir(self._gone), key=lambda entry: entry.stat().st_mtime)
        for old in stones[:-_TOMBSTONES_KEPT]:
            os.unlink(old.path)

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """One caller at a time for one name, across processes."""
        path = self._machines / f".{name}.lock"
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
            if (self._gone / name).exists():
                path.unlink(missing_ok=True)


def _described(order: LaunchOrder) -> dict[str, Any]:
    return {
        "name": order.name,
        "controller": order.controller,
        "launched_at": datetime.now(UTC).isoformat(),
        "tags": {"owner": order.owner, "expires-at": order.expires_at.isoformat(), **order.tags},
    }


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
