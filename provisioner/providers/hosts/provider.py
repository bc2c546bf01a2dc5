"""Hosts as a Provider: a scope each, a machine a slot. A host that does not answer is unreachable, and nothing on it
is free or gone, unless somebody has given it up."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import structlog

from provisioner.domain.errors import InvalidRequest, NoAnswer, NoCapacity, ProviderError, Unreachable
from provisioner.domain.gpu import Gpu, from_driver, known, parse_gpu
from provisioner.domain.hosts import Host
from provisioner.domain.job import Need
from provisioner.domain.offer import LaunchOrder, Listing, Machine, MachineState, Market, Offer
from provisioner.domain.shell import Session, Shell, Way
from provisioner.providers.local.provider import described, machine_of

from .visit import Visit

_log = structlog.get_logger()
_FULL_S = 5.0  # arbitrary: somebody else took the slot just now; whether it is free again is seen by looking
_FRESH_S = 30.0  # arbitrary: what a host has changes seldom; whether its slots are free is ours to know
_PATIENCE_S = 2.0  # arbitrary: what a job's placing waits for a host that is slow or gone
_SURE_S = 10.0  # arbitrary: what is waited for a host that is said to be gone for good
_PREFIX = "hosts:"


@dataclass
class _Look:
    """What a host said when it was asked last, or why it did not; `changed`: something was done there since."""

    at_s: float | None = None
    seen: dict[str, Any] | None = None
    trouble: ProviderError | None = None
    changed: bool = False
    task: asyncio.Task[None] | None = None


class HostsProvider:
    """`hosts` are those there are now, `given_up` by whom others were; `key` gives the private key that they let us in
    by; `bundle` the path of agent.pyz; `orphan_s` is after how long without a controller an agent ends its work."""

    name = "hosts"
    visibility_s = 0.0

    def __init__(
        self,
        shell: Shell,
        hosts: Callable[[], Awaitable[Sequence[Host]]],
        given_up: Callable[[], Awaitable[Mapping[str, str]]],
        key: Callable[[], Awaitable[str]],
        controller: str,
        bundle: Callable[[], Path],
        *,
        orphan_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._shell = shell
        self._hosts = hosts
        self._given_up = given_up
        self._key = key
        self._controller = controller
        self._bundle = bundle
        self._orphan_s = orphan_s
        self._clock = clock
        self._visits: dict[str, Visit] = {}
        self._looks: dict[str, _Look] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    async def offers(self, need: Need) -> Sequence[Offer]:
        """Of all hosts that answer, as they were lately; nobody waits long for one that does not. Raises: Unreachable
        when none does."""
        visits = await self._all()
        answers = await asyncio.gather(*(self._lately(visit) for visit in visits), return_exceptions=True)
        offers, silent = [], []
        for visit, answer in zip(visits, answers, strict=True):
            if isinstance(answer, ProviderError):
                silent.append(answer)
                continue
            if isinstance(answer, BaseException):
                raise answer
            try:
                check(visit.host, answer)
                offers.append(self._offer(visit.host, answer))
            except (InvalidRequest, ValueError) as error:  # what it says of itself, or what was said of it
                silent.append(Unreachable(f"host {visit.host.name}: {error}"))
        if silent and not offers:
            raise silent[0]
        return offers

    async def launch(self, order: LaunchOrder) -> Machine:
        visit = await self._visit(order.offer.scope)
        gpus = order.offer.gpu.count * visit.host.slots if order.offer.gpu else 0
        told = {
            "described": described(order),
            "config": order.config,
            "slots": visit.host.slots,
            "gpus": gpus,
        }
        agent = await asyncio.to_thread(self._bundle().read_bytes)
        answer = await asyncio.shield(visit.ask("launch", json.dumps(told).encode() + b"\n" + agent))
        self._touched(visit)
        if answer.get("full"):
            raise NoCapacity(f"host {visit.host.name}: {_all_taken(visit.host)}", cooldown_s=_FULL_S)
        if answer.get("ended"):
            return machine_of(described(order), order.offer.scope, MachineState.STOPPING)
        return machine_of(answer["kept"], order.offer.scope, MachineState.RUNNING)

    async def machines(self) -> Sequence[Listing]:
        visits = await self._all()
        given_up = (await self._given_up()).items()
        over = [_over(name, by) for name, by in given_up if name not in {visit.host.name for visit in visits}]
        return [*await asyncio.gather(*(self._listing(visit) for visit in visits)), *over]

    async def terminate(self, machine_ref: str, name: str, scope: str) -> None:
        visit = await self._visit(scope)
        answer = await asyncio.shield(visit.ask("end", {"name": name}))
        self._touched(visit)
        if answer.get("left"):
            raise Unreachable(f"host {visit.host.name}: {answer['left']}; asked again later")

    async def console(self, machine_ref: str, name: str, scope: str) -> str:
        return str((await (await self._visit(scope)).ask("console", {"name": name}))["text"])

    async def way(self, scope: str, name: str) -> Way:
        visit = await self._visit(scope)
        place = visit.place or (await self._asked(visit))["place"]

        async def greet(session: Session) -> None:
            try:
                await visit.ask("open", {"name": name})
            except ProviderError as error:
                raise NoAnswer(error.message, hint=error.hint) from error

        return Way(visit.login, f"{place}/machines/{name}/state/controller.sock", greet)

    async def look(self, host: Host) -> dict[str, Any]:
        """What it says that it has, asked now. Raises: Unreachable."""
        return await self._asked(await self._visit(f"{_PREFIX}{host.name}"))

    async def answers(self, host: Host) -> bool:
        """Within a moment."""
        try:
            await asyncio.wait_for(self.look(host), _SURE_S)
        except (ProviderError, TimeoutError):
            return False
        return True

    async def examined(self, host: Host) -> dict[str, Any]:
        """The same of one that is not used yet. Raises: Unreachable, InvalidRequest if it is not what is said of it."""
        visit = Visit(self._shell, host, await self._key())
        try:
            seen = await visit.ask("look")
        finally:
            await visit.close()
        check(host, seen)
        return seen

    async def close(self) -> None:
        for look in self._looks.values():
            if look.task is not None:
                look.task.cancel()
        await asyncio.gather(*(visit.close() for visit in self._visits.values()), *self._leaving)

    async def _all(self) -> list[Visit]:
        hosts = {host.name: host for host in await self._hosts()}
        for name in [name for name, visit in self._visits.items() if hosts.get(name) != visit.host]:
            self._leave(self._visits.pop(name))
            del self._looks[name]
        for name, host in hosts.items():
            if name not in self._visits:
                self._visits[name] = Visit(self._shell, host, await self._key())
                self._looks[name] = _Look()
        return [self._visits[name] for name in sorted(hosts)]

    def _leave(self, visit: Visit) -> None:
        """One that is silent may take long, and holds up nobody."""
        task = asyncio.create_task(visit.close(), name=f"leave {visit.host.name}")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def _touched(self, visit: Visit) -> None:
        if (look := self._looks.get(visit.host.name)) is not None:  # it may have been forgotten meanwhile
            look.changed = True

    async def _visit(self, scope: str) -> Visit:
        await self._all()
        visit = self._visits.get(scope.removeprefix(_PREFIX))
        if visit is None:
            raise Unreachable(f"{scope} is not a host that this controller knows", hint="`runner hosts add` it again")
        return visit

    async def _asked(self, visit: Visit) -> dict[str, Any]:
        """What it says now. Raises: Unreachable."""
        look = self._looks[visit.host.name]
        look.changed = False
        try:
            look.seen, look.trouble = await visit.ask("look"), None
        except ProviderError as error:
            look.trouble = error
            raise
        finally:
            look.at_s = self._clock()
        visit.place = str(look.seen["place"])
        return look.seen

    async def _lately(self, visit: Visit) -> dict[str, Any]:
        """What it said last; one that is asked again goes on being asked after our patience is over."""
        look = self._looks[visit.host.name]
        stale = look.changed or look.at_s is None or self._clock() - look.at_s > _FRESH_S
        if stale and (look.task is None or look.task.done()):
            look.task = asyncio.create_task(self._quietly(visit), name=f"look at {visit.host.name}")
        if stale and look.task is not None:
            await asyncio.wait({look.task}, timeout=_PATIENCE_S)
        if look.trouble is not None:
            raise look.trouble
        if look.seen is None:
            raise Unreachable(f"host {visit.host.name} has not answered yet")
        return look.seen

    async def _quietly(self, visit: Visit) -> None:
        with contextlib.suppress(ProviderError):  # kept as its trouble
            await self._asked(visit)

    async def _listing(self, visit: Visit) -> Listing:
        scope, taken_at = f"{_PREFIX}{visit.host.name}", datetime.now(UTC)
        try:
            seen = await self._asked(visit)
        except ProviderError as error:
            return Listing(scope, taken_at, error=error.message)
        states = ("machines", MachineState.RUNNING), ("stopped", MachineState.STOPPED)
        found = [machine_of(one, scope, state) for part, state in states for one in seen[part]]
        return Listing(scope, taken_at, tuple(one for one in found if one.controller == self._controller))

    def _offer(self, host: Host, seen: Mapping[str, Any]) -> Offer:
        return Offer(
            provider=self.name,
            region=host.name,
            zone=host.name,
            instance_type=host.name,
            market=Market.ON_DEMAND,
            usd_per_hour=host.usd_per_hour,
            price_source="what was said of the host",
            scope=f"{_PREFIX}{host.name}",
            cpus=max(1, seen["cpus"] // host.slots),
            memory_gib=seen["memory_gib"] / host.slots,
            disk_gib=seen["disk_gib"] / host.slots,
            gpu=_share(gpu_of(host, seen["driver"]), host.slots),
            arch=seen["arch"],
            deadman_bound_s=self._orphan_s,
            most=host.slots,
            taken=_all_taken(host) if seen["taken"] >= host.slots else "",
        )


def gpu_of(host: Host, driver: str) -> Gpu | None:
    """All of the host's. Raises: InvalidRequest."""
    if host.gpu == "none":
        return None
    if host.gpu == "auto":
        return from_driver(driver)
    said = parse_gpu(host.gpu)
    model = known(said.name or "")
    if model is None:
        raise InvalidRequest(f"host {host.name}: cannot read GPU {host.gpu!r}", hint="auto, none or NAME[:COUNT]")
    return Gpu(model.name, said.count, said.min_memory_gb or float(min(model.memory_gb)))


def summary(host: Host, seen: Mapping[str, Any], trouble: str = "") -> dict[str, Any]:
    """For showing: what is said of it, and what it says itself unless there is trouble."""
    gpu = gpu_of(host, str(seen["driver"])) if seen else None
    return {
        "id": host.name,
        "login": str(host.login("")),
        "slots": host.slots,
        "taken": seen["taken"] if seen else None,
        "gpu": f"{gpu.name}:{gpu.count}" if gpu else "",
        "cpus": seen.get("cpus"),
        "memory_gib": round(seen["memory_gib"], 1) if seen else None,
        "usd_per_hour": str(host.usd_per_hour),
        "trouble": trouble,
    }


def check(host: Host, seen: Mapping[str, Any]) -> None:
    """Whether it can be what it is said to be. Raises: InvalidRequest."""
    gpu = gpu_of(host, str(seen["driver"]))
    if host.slots > 1 and not seen["root"]:
        raise InvalidRequest(
            f"several slots need a login as root on {host.name}: each has a user of its own", hint="--slots 1"
        )
    if gpu and gpu.count % host.slots:
        raise InvalidRequest(f"{gpu.count} GPUs cannot be shared evenly by {host.slots} slots", hint="another --slots")
    if host.usd_per_hour < Decimal(0):
        raise InvalidRequest("a price below zero", hint="--usd-per-hour 0")


def _over(name: str, by: str) -> Listing:
    why = f"{by} has given {name} up as gone or wiped; what may still run there is left to its own limits"
    return Listing(f"{_PREFIX}{name}", datetime.now(UTC), given_up=why)


def _share(gpu: Gpu | None, slots: int) -> Gpu | None:
    return None if gpu is None else Gpu(gpu.name, gpu.count // slots, gpu.memory_gb)


def _all_taken(host: Host) -> str:
    return "its slot is taken" if host.slots == 1 else f"all {host.slots} slots are taken"
