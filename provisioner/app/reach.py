"""Machines that cannot dial this controller, because it has no address that they could reach: it goes to them by SSH.

Before such a machine is launched its row among the machines' keys is made; that row is what says that it is one. What
its user-data plants follows from its name, so that a launch may be repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from provisioner.bootstrap.hostkeys import KeyPair, new_pair, planted_pair
from provisioner.bootstrap.introduce import SOCKET, introduce
from provisioner.bootstrap.tunnels import Tunnels
from provisioner.bootstrap.userdata import Door
from provisioner.domain.abilities import HasDoor, HasWay
from provisioner.domain.errors import BootstrapError, NotFound, ProviderError
from provisioner.domain.facts import Seen, Sighting
from provisioner.domain.hosts import MachineKey
from provisioner.domain.job import Instance, InstancePhase
from provisioner.domain.offer import MachineState
from provisioner.domain.ports import Clock, Provider
from provisioner.domain.shell import Login, Session, Shell, Way
from provisioner.domain.store import Event, Store

from .kept import LOGIN, kept

_log = structlog.get_logger()
_REACHED = (InstancePhase.BOOTING, InstancePhase.READY, InstancePhase.DRAINING)
_PATIENCE_S = 2.0  # arbitrary: a host that is slow to say where its machines are must not hold up the others
_ADMIT_EVERY = timedelta(seconds=60)  # arbitrary: how soon the rule follows a changed address of ours


@dataclass(frozen=True, slots=True)
class _Admitted:
    """Where a provider's door was to be opened, when that was tried last, and whether it failed."""

    scopes: set[str]
    at: datetime
    failed: bool = False

    def due(self, wanted: set[str], now: datetime) -> bool:
        passed = not self.at <= now < self.at + _ADMIT_EVERY
        return (passed and bool(wanted or self.failed)) or (not self.failed and wanted != self.scopes)


class Reach:
    """`secret` is what planted keys are made from, `sealing` what our own is kept under; `local` is the agents' socket
    of this controller; `sighting` what the cloud shows of an instance."""

    def __init__(
        self,
        store: Store,
        shell: Shell,
        clock: Clock,
        providers: Mapping[str, Provider],
        *,
        secret: bytes,
        sealing: bytes,
        local: str,
        sighting: Callable[[Instance], Sighting],
    ) -> None:
        self._store = store
        self._clock = clock
        self._providers = providers
        self._secret = secret
        self._sealing = sealing
        self._sighting = sighting
        self._pair: KeyPair | None = None
        self._admitted: dict[str, _Admitted] = {}
        self._admitting: asyncio.Task[None] | None = None
        self._leaving = False
        self._tunnels = Tunnels(shell, local, self.wanted, self._told)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await self._tunnels.run()
        finally:
            if self._admitting is not None:
                self._admitting.cancel()

    async def shut(self) -> None:
        """Nobody is let in any more, for good. What fails is tried again while this runs."""
        self._leaving = True
        if self._admitting is not None:
            await asyncio.wait({self._admitting})
        for name, provider in self._providers.items():
            if isinstance(provider, HasDoor):
                self._admitted[name] = await self._admit_in(name, set(), self._clock.now())

    async def pair(self) -> KeyPair:
        """The key that machines and hosts let this controller in by."""
        if self._pair is None:
            text = await kept(self._store.records, self._sealing, LOGIN, _made)
            private, _, public = text.decode().rpartition("\n")
            self._pair = KeyPair(private, public)
        return self._pair

    async def private_key(self) -> str:
        return (await self.pair()).private

    async def urls(self, instance: Instance) -> list[str]:
        """Where its agent finds this controller: a socket of its own. From now on it is one that is gone to."""
        provider = self._providers[instance.offer.provider]
        await self.pair()
        if isinstance(provider, HasWay):
            return [f"unix:{(await provider.way(instance.offer.scope, instance.name)).socket}"]
        if instance.id not in await self._store.hosts.machine_keys():
            await self._store.hosts.keep_machine_key(instance.id, MachineKey())
        return [f"unix:{SOCKET}"]

    def door(self, name: str) -> Door:
        """What its user-data says, once `urls` was asked for."""
        assert self._pair is not None
        return Door(planted_pair(self._secret, name), self._pair.public)

    async def wanted(self) -> dict[str, Way]:
        """The tunnels that ought to be there now."""
        instances = await self._store.instances.find()
        keys = await self._store.hosts.machine_keys() if instances else {}
        if self._admitting is None or self._admitting.done():
            self._admitting = asyncio.create_task(self._admit([one for one in instances if one.id in keys]))
        reached = [one for one in instances if one.phase in _REACHED]
        going = [one for one in reached if self._goes(one, keys)]
        ways = await asyncio.gather(*(self._way(one, keys) for one in going))
        return {one.id: way for one, way in zip(going, ways, strict=True) if way is not None}

    async def login(self, instance: Instance) -> Login:
        """For a person's shell on it. Raises: NotFound when it is not reached over SSH."""
        keys = await self._store.hosts.machine_keys()
        way = await self._way(instance, keys) if self._goes(instance, keys) else None
        if way is None:
            raise NotFound(
                f"{instance.id} is not reached over SSH",
                hint="its agent dials this controller; hosts, and machines of a controller without public_url, are",
            )
        return way.login

    def _goes(self, instance: Instance, keys: Mapping[str, MachineKey]) -> bool:
        return instance.id in keys or isinstance(self._providers.get(instance.offer.provider), HasWay)

    async def _way(self, instance: Instance, keys: Mapping[str, MachineKey]) -> Way | None:
        """None while nobody knows where it is."""
        provider, pair = self._providers.get(instance.offer.provider), await self.pair()
        if isinstance(provider, HasWay):
            with contextlib.suppress(ProviderError, TimeoutError):
                return await asyncio.wait_for(provider.way(instance.offer.scope, instance.name), _PATIENCE_S)
            return None
        sighting = self._sighting(instance)
        if not isinstance(sighting, Seen) or sighting.machine.state is not MachineState.RUNNING:
            return None
        if not sighting.machine.address:
            return None
        known = keys[instance.id]
        host_keys = known.accepted(planted_pair(self._secret, instance.name).public)
        login = Login(sighting.machine.address, host_keys=host_keys, key=pair.private)
        return Way(login, SOCKET, self._introduction(instance.id, known))

    def _introduction(self, instance_id: str, known: MachineKey) -> Callable[[Session], Awaitable[None]]:
        async def greet(session: Session) -> None:
            await introduce(session, known, lambda key: self._store.hosts.keep_machine_key(instance_id, key))

        return greet

    async def _admit(self, instances: list[Instance]) -> None:
        """Let this controller in where such machines are, and nowhere else."""
        scopes: dict[str, set[str]] = {key: set() for key, one in self._providers.items() if isinstance(one, HasDoor)}
        for one in instances if not self._leaving else ():
            if one.offer.provider in scopes:
                scopes[one.offer.provider].add(one.offer.scope)
        now = self._clock.now()
        for name, wanted in scopes.items():
            before = self._admitted.get(name)
            if before is None or before.due(wanted, now):
                self._admitted[name] = await self._admit_in(name, wanted, now)

    async def _admit_in(self, name: str, wanted: set[str], now: datetime) -> _Admitted:
        provider = self._providers[name]
        assert isinstance(provider, HasDoor)
        try:
            await provider.admit(wanted)
        except ProviderError as error:
            _log.warning("door.not_seen_to", provider=name, error=error.message)
            return _Admitted(wanted, now, failed=True)
        return _Admitted(wanted, now)

    async def _told(self, instance_id: str, error: BootstrapError | None) -> None:
        what = "instance.unreached" if error else "instance.reached"
        message = str(error) if error else "over SSH"
        await self._store.records.record(Event(what, self._clock.now(), message, instance_id=instance_id))


def _made() -> bytes:
    pair = new_pair()
    return f"{pair.private}\n{pair.public}".encode()
