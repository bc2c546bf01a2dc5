"""The provider whose machines are processes on this host, kept in one folder (`folder`).

The agent is the same file that a rented machine gets, bootstrapped the same way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from provisioner.domain.errors import Rejected, Unreachable
from provisioner.domain.handing import TAG
from provisioner.domain.job import Need
from provisioner.domain.offer import LaunchOrder, Listing, Machine, MachineState, Market, Offer

from . import host
from .folder import MachineFolder

_HERE = "local"
_CONSOLE_BYTES = 2**16


class LocalProvider:
    """`machines` is the folder of all of them, which is one scope; `bundle` gives the path of agent.pyz; `usd_per_hour`
    is what an hour of this host is said to cost.

    `any_controller`: list the machines of every controller that used this home (to collect what has expired), those
    included of which only the folder is left because nobody was there to end them.
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
        self._folder = MachineFolder(machines)
        self._scope = scope
        self._controller = controller
        self._bundle = bundle
        self._usd_per_hour = usd_per_hour
        self._any_controller = any_controller

    def __repr__(self) -> str:
        return f"LocalProvider({self._folder.path})"

    async def offers(self, need: Need) -> Sequence[Offer]:
        facts = await asyncio.to_thread(host.facts, self._folder.path)
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

    async def hand_over(self, machine_ref: str, name: str, scope: str) -> None:
        self._check(scope)
        await asyncio.shield(asyncio.to_thread(self._hand_over, name))

    def _hand_over(self, name: str) -> None:
        try:
            tagged = self._folder.tag(name, TAG, datetime.now(UTC).isoformat())
        except OSError as error:
            raise Unreachable(f"this host refused: {error}") from error
        if not tagged:
            raise Unreachable(f"{name} is not there")

    async def console(self, machine_ref: str, name: str, scope: str) -> str:
        self._check(scope)
        return await asyncio.to_thread(self._console, name)

    def _console(self, name: str) -> str:
        try:
            return self._folder.console(name, _CONSOLE_BYTES)
        except OSError as error:
            raise Unreachable(f"this host refused: {error}") from error

    def _check(self, scope: str) -> None:
        """Machines of another host are its controller's to launch and to end."""
        if scope not in ("", self._scope):
            raise Unreachable(f"{scope} is not the machines that this controller has, {self._scope}")

    def _launch(self, order: LaunchOrder) -> Machine:
        try:
            kept = self._folder.launch(described(order), order.config, self._bundle())
        except FileNotFoundError as error:
            raise Rejected(f"cannot start a process on this host: {error}") from error
        except OSError as error:
            raise Unreachable(f"this host refused: {error}") from error
        if kept is None:
            return machine_of(described(order), self._scope, MachineState.STOPPING)
        return machine_of(kept, self._scope, MachineState.RUNNING)

    def _list(self) -> Listing:
        taken_at = datetime.now(UTC)
        try:
            living = self._folder.living()
            left = self._folder.all() if self._any_controller else []
        except (OSError, ValueError) as error:
            return Listing(self._scope, taken_at, error=f"cannot read {self._folder.path}: {error}")
        there = {one["name"] for one in living}
        found = [(one, MachineState.RUNNING) for one in living]
        found += [(one, MachineState.STOPPED) for one in left if one["name"] not in there]
        ours = [(one, s) for one, s in found if self._any_controller or one["controller"] == self._controller]
        return Listing(self._scope, taken_at, tuple(machine_of(one, self._scope, state) for one, state in ours))

    def _terminate(self, name: str) -> None:
        try:
            if not self._folder.end(name):
                raise Unreachable(f"processes of {name} do not die; asked again later")
        except OSError as error:
            raise Unreachable(f"this host refused: {error}") from error


def described(order: LaunchOrder) -> dict[str, Any]:
    """What is kept of a machine beside its processes."""
    return {
        "name": order.name,
        "controller": order.controller,
        "launched_at": datetime.now(UTC).isoformat(),
        "tags": {"owner": order.owner, "expires-at": order.expires_at.isoformat(), **order.tags},
    }


def machine_of(kept: Mapping[str, Any], scope: str, state: MachineState) -> Machine:
    """The machine that was `described` so."""
    return Machine(
        ref=kept["name"],
        name=kept["name"],
        controller=kept["controller"],
        scope=scope,
        state=state,
        launched_at=datetime.fromisoformat(kept["launched_at"]),
        tags=kept["tags"],
    )
