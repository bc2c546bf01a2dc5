"""Every provider that a controller has, and how its machines and it find one another.

Some come while it runs: a cloud that a command has just named. Whoever makes an engine over `providers` says so by
`serve_under`, because what it has seen of a machine tells where that can be reached.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass

from provisioner.bootstrap.bundle import agent_bundle
from provisioner.bootstrap.shell import OpenSsh
from provisioner.domain.facts import Sighting
from provisioner.domain.job import Instance
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Provider
from provisioner.domain.store import Store
from provisioner.engine import Engine
from provisioner.providers.hosts import HostsProvider
from provisioner.providers.local import LocalProvider
from provisioner.settings import Settings

from .aws import aws_cloud, aws_provider, check_account
from .clock import SystemClock
from .home import Home
from .hosts import HostBook, all_hosts, host_of
from .keyring import Keyring
from .reach import Reach


@dataclass(frozen=True)
class Ground:
    """What a controller stands on. `agent_urls` is where agents find it; `shared`: others use its database, too;
    `served`: it has a TCP port."""

    home: Home
    settings: Settings
    policy: Policy
    clock: SystemClock
    store: Store
    controller_id: str
    secret_key: bytes
    session_key: bytes
    agent_urls: Sequence[str]
    shared: bool
    served: bool


class Clouds:
    """`reach` goes to machines that cannot come, `hosting` knows hosts that somebody already has, `keyring` (of an
    embedded controller) keeps what commands hand over."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._engine: Engine | None = None
        self._dialled = ground.shared or not ground.agent_urls[0].startswith("unix:")
        self.providers: dict[str, Provider] = {"local": _local(ground)}
        self.keyring: Keyring | None = None
        shell = OpenSsh()
        self.reach = Reach(
            ground.store,
            shell,
            ground.clock,
            self.providers,
            secret=ground.session_key,
            sealing=ground.secret_key,
            local=str(ground.home.agents_socket),
            sighting=self._sighting,
        )
        named = {one.name: host_of(one) for one in ground.settings.hosts}
        self._hosts = HostsProvider(
            shell,
            lambda: all_hosts(ground.store, named),
            ground.store.hosts.given_up,
            self.reach.private_key,
            ground.controller_id,
            lambda: agent_bundle(ground.home.cache),
            orphan_s=ground.policy.orphan_s + ground.policy.drain_s,
            clock=ground.clock.monotonic,
        )
        self.hosting = HostBook(
            ground.store, named, self.reach, self._hosts, ground.clock, lambda: self._resume("hosts")
        )
        # Two controllers would hold a tunnel each, and take the socket from one another; a step's own would be gone.
        if not ground.shared and ground.home.lasting is None:
            self.providers["hosts"] = self._hosts

    @property
    def usual(self) -> Sequence[str]:
        """Those that are used when a job names none."""
        return ("local", "hosts", "aws") if self._ground.settings.aws.enabled else ("local", "hosts")

    @property
    def paused(self) -> dict[str, str]:
        return self.keyring.paused if self.keyring is not None else {}

    async def open(self) -> None:
        """A served controller has credentials of its own; an embedded one has those that it is handed."""
        ground, door = self._ground, None if self._dialled else self.reach.door
        words = ground.settings, ground.clock, ground.controller_id, ground.home
        if not ground.served:
            clouds = {"aws": aws_cloud(*words, door)}
            self.keyring = Keyring(clouds, self.providers, ground.store, ground.clock, ground.policy, self._resume)
            await self.keyring.open()
            return
        live = {one.offer.provider for one in await ground.store.instances.find()}
        if "aws" in live:
            await check_account(ground.settings, ground.clock, ground.store.records)
        if "aws" in live or ground.settings.aws.enabled:  # what an embedded one launched has to be ended as well
            self.providers["aws"] = aws_provider(*words, door=door)

    def serve_under(self, engine: Engine) -> None:
        self._engine = engine

    async def urls(self, instance: Instance) -> Sequence[str]:
        """Where the agent of an instance that is about to be launched will find a controller."""
        name = instance.offer.provider
        if name == "local" and not self._ground.shared:  # a socket is there whichever controller has the home
            return [f"unix:{self._ground.home.agents_socket}"]
        if name == "local" or (self._dialled and name != "hosts"):
            return (self._engine.urls if self._engine else ()) or self._ground.agent_urls
        return await self.reach.urls(instance)

    async def close(self) -> None:
        await self._hosts.close()

    def _sighting(self, instance: Instance) -> Sighting:
        assert self._engine is not None
        return self._engine.observed.sighting(instance)

    def _resume(self, name: str) -> None:
        if self._engine is not None:
            self._engine.resume(name)


def _local(ground: Ground) -> LocalProvider:
    """Controllers of one host may share its machines; on one database they must know which host's they are."""
    machines = ground.settings.local.folder(ground.home.path)
    scope = f"local:{socket.gethostname()}:{machines}" if ground.shared else "local"
    return LocalProvider(
        machines,
        ground.controller_id,
        lambda: agent_bundle(ground.home.cache),
        usd_per_hour=ground.settings.local.usd_per_hour,
        scope=scope,
    )
