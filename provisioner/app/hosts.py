"""The hosts that this controller may use: those that the settings name, and those that were added since."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from provisioner.domain.errors import Conflict, InvalidRequest, ProviderError
from provisioner.domain.hosts import Host
from provisioner.domain.job import Instance
from provisioner.domain.ports import Store
from provisioner.domain.shell import Login
from provisioner.providers.hosts import HostsProvider
from provisioner.providers.hosts.provider import summary
from provisioner.settings import HostSettings

from .reach import Reach


def host_of(said: HostSettings) -> Host:
    """As the settings have it."""
    return Host(
        name=said.name,
        address=said.address,
        port=said.port,
        user=said.user,
        host_keys=tuple(" ".join(key.split()[:2]) for key in said.host_keys),
        gpu=said.gpu,
        slots=said.slots,
        usd_per_hour=said.usd_per_hour,
        folder=said.folder,
    )


class HostBook:
    """The Hosting port of `domain.hosts`. `named` are those of the settings."""

    def __init__(self, store: Store, named: Mapping[str, Host], reach: Reach, provider: HostsProvider) -> None:
        self._store = store
        self._named = named
        self._reach = reach
        self._provider = provider

    async def public_key(self) -> str:
        return (await self._reach.pair()).public

    async def login(self, instance: Instance) -> Login:
        return await self._reach.login(instance)

    async def shown(self) -> list[dict[str, Any]]:
        return await asyncio.gather(*(self._shown(host) for host in await all_hosts(self._store, self._named)))

    async def _shown(self, host: Host) -> dict[str, Any]:
        try:
            return summary(host, await self._provider.look(host))
        except ProviderError as error:
            return summary(host, {}, error.message)
        except (InvalidRequest, ValueError) as error:  # its driver says what cannot be read
            return summary(host, {}, str(error))

    async def add(self, host: Host) -> dict[str, Any]:
        if host.name in self._named:
            raise Conflict(f"{host.name} is in the settings", hint="change it there, or choose another name")
        before = {one.name: one for one in await self._store.hosts.all()}.get(host.name)
        if before is not None and not _same_place(before, host):
            await self._check_free(host.name)
        try:
            seen = await self._provider.examined(host)
        except ProviderError as error:
            raise Conflict(error.message, hint=error.hint or "the host must answer when it is added") from error
        await self._store.hosts.put(host)
        return summary(host, seen)

    async def drop(self, name: str) -> None:
        if name in self._named:
            raise InvalidRequest(f"{name} is in the settings", hint="remove it there, and start the controller again")
        await self._check_free(name)
        await self._store.hosts.drop(name)

    async def _check_free(self, name: str) -> None:
        busy = [one for one in await self._store.instances.find() if one.offer.scope == f"hosts:{name}"]
        if busy:
            raise Conflict(f"{busy[0].id} is on {name}", hint=f"`runner stop {busy[0].id}` first")


def _same_place(one: Host, other: Host) -> bool:
    return (one.address, one.port, one.user, one.folder) == (other.address, other.port, other.user, other.folder)


async def all_hosts(store: Store, named: Mapping[str, Host]) -> list[Host]:
    """By name; what the settings say goes before what was added."""
    added = {host.name: host for host in await store.hosts.all()}
    return sorted((added | dict(named)).values(), key=lambda host: host.name)
