"""The hosts that this controller may use: those that the settings name, and those that were added since."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from provisioner.domain.errors import Conflict, InvalidRequest, ProviderError
from provisioner.domain.hosts import Host
from provisioner.domain.job import Instance
from provisioner.domain.ports import Clock
from provisioner.domain.shell import Login
from provisioner.domain.store import Event, Store
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
    """The Hosting port of `domain.hosts`. `named` are those of the settings; `look` has the engine look at all hosts
    anew."""

    def __init__(
        self,
        store: Store,
        named: Mapping[str, Host],
        reach: Reach,
        provider: HostsProvider,
        clock: Clock,
        look: Callable[[], None],
    ) -> None:
        self._store = store
        self._named = named
        self._reach = reach
        self._provider = provider
        self._clock = clock
        self._look = look

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
        self._check_added(name)
        await self._check_free(name)
        await self._store.hosts.drop(name)

    async def give_up(self, name: str, by: str) -> list[str]:
        """What becomes of its instances is decided, as ever, from what the provider says of it from now on."""
        self._check_added(name)
        known, left = {one.name: one for one in await self._store.hosts.all()}.get(name), await self._on(name)
        if not left:
            await self._store.hosts.drop(name)
            return []
        if known is not None and await self._provider.answers(known):
            raise Conflict(
                f"{name} answers, so its machines can be ended",
                hint=f"`runner stop {left[0].id}`; --force is for a host that is gone for good or was wiped",
            )
        await self._store.hosts.give_up(name, by)
        ids = [one.id for one in left]
        bound_s = max(one.offer.deadman_bound_s for one in left)
        said = (
            f"{by} has given {name} up as gone or wiped; closed without a word from it: {', '.join(ids)}; "
            f"what may run there ends by itself {bound_s:g} s after it last heard this controller"
        )
        data = {"host": name, "by": by, "instances": ids}
        await self._store.records.record(Event("host.given_up", self._clock.now(), said, data=data))
        self._look()
        return ids

    def _check_added(self, name: str) -> None:
        if name in self._named:
            raise InvalidRequest(f"{name} is in the settings", hint="remove it there, and start the controller again")

    async def _check_free(self, name: str) -> None:
        if left := await self._on(name):
            raise Conflict(
                f"{left[0].id} is on {name}",
                hint=f"`runner stop {left[0].id}` first; if {name} is gone for good or was wiped, "
                f"`runner hosts rm --force {name}` closes what is on it, unconfirmed",
            )

    async def _on(self, name: str) -> list[Instance]:
        return [one for one in await self._store.instances.find() if one.offer.scope == f"hosts:{name}"]


def _same_place(one: Host, other: Host) -> bool:
    return (one.address, one.port, one.user, one.folder) == (other.address, other.port, other.user, other.folder)


async def all_hosts(store: Store, named: Mapping[str, Host]) -> list[Host]:
    """By name; what the settings say goes before what was added."""
    added = {host.name: host for host in await store.hosts.all()}
    return sorted((added | dict(named)).values(), key=lambda host: host.name)
