"""Everything that a running controller consists of, made in order and taken down in reverse."""

from __future__ import annotations

import hashlib
import hmac
import os
import random
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from provisioner.bootstrap.bundle import agent_bundle
from provisioner.bootstrap.shell import OpenSsh
from provisioner.domain.errors import InvalidRequest
from provisioner.domain.job import Instance
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Logs, Objects, Provider, Store
from provisioner.engine import Engine
from provisioner.objects import open_objects
from provisioner.providers.hosts import HostsProvider
from provisioner.providers.local import LocalProvider
from provisioner.settings import Settings, load, secret_key
from provisioner.store.logs import FileLogs
from provisioner.store.open import open_store
from provisioner.store.sealed import SealedLogs

from .abilities import abilities_of
from .aws import aws_cloud, aws_provider
from .clock import SystemClock
from .home import Home
from .hosts import HostBook, all_hosts, host_of
from .join import config_for
from .keyring import Keyring
from .reach import Reach


@dataclass(frozen=True)
class Controller:
    """The parts, for those who start loops and listeners over them."""

    home: Home
    settings: Settings
    policy: Policy
    clock: SystemClock
    store: Store
    logs: Logs
    objects: Objects
    providers: Mapping[str, Provider]
    engine: Engine
    reach: Reach
    hosting: HostBook
    keyring: Keyring | None
    controller_id: str
    secret_key: bytes
    session_key: bytes


@asynccontextmanager
async def composed(
    home: Home, environment: Mapping[str, str], *, served: bool = False, own_tls: bool = False
) -> AsyncIterator[Controller]:
    """`served`: it has a TCP port; `own_tls`: under our own authority. Raises: RequestError, StoreError."""
    settings = load(home.path, environment)
    agent_urls = [settings.public_url] if served and settings.public_url else [f"unix:{home.agents_socket}"]
    store_url = settings.store_url or f"sqlite:///{home.database}"
    shared = store_url.startswith("postgresql")
    if shared:
        _check_shared(settings, environment)
    key = secret_key(home.path, environment)
    session_key = hmac.new(key, b"sessions", hashlib.sha256).digest()
    clock, policy = SystemClock(), settings.make_policy()
    objects = open_objects(settings.objects_url or str(home.objects))
    store = await open_store(store_url, secret_key=key, home=home.path)
    try:
        controller_id = await store.records.controller_id()
        ca_pem = await _authority(store, key) if own_tls and agent_urls[0].startswith("https:") else ""
        logs: Logs = SealedLogs(store.database, objects) if shared else FileLogs(home.logs)
        providers: dict[str, Provider] = {"local": _local(home, settings, controller_id, shared)}
        shell = OpenSsh()
        reach = Reach(
            store,
            shell,
            clock,
            providers,
            secret=session_key,
            sealing=key,
            local=str(home.agents_socket),
            sighting=lambda instance: engine.observed.sighting(instance),
        )
        named = {one.name: host_of(one) for one in settings.hosts}
        ours = HostsProvider(
            shell,
            lambda: all_hosts(store, named),
            reach.private_key,
            controller_id,
            lambda: agent_bundle(home.cache),
            orphan_s=policy.orphan_s + policy.drain_s,
            clock=clock.monotonic,
        )
        if not shared:  # two controllers would hold a tunnel each, and take the socket from one another
            providers["hosts"] = ours
        dialled = shared or not agent_urls[0].startswith("unix:")
        door = None if dialled else reach.door
        keyring: Keyring | None = None
        if served and settings.aws.enabled:
            providers["aws"] = aws_provider(settings, clock, controller_id, home, door=door)
        elif not served:
            clouds = {"aws": aws_cloud(settings, clock, controller_id, home, door)}
            keyring = Keyring(clouds, providers, store, clock, policy, lambda name: engine.resume(name))
            await keyring.open()

        async def urls_for(instance: Instance) -> Sequence[str]:
            name = instance.offer.provider
            if name == "local" or (dialled and name != "hosts"):
                return engine.urls or agent_urls
            return await reach.urls(instance)

        engine: Engine = Engine(
            store=store,
            providers=providers,
            clock=clock,
            policy=policy,
            rng=random.SystemRandom(),
            default_providers=("local", "hosts", "aws") if settings.aws.enabled else ("local", "hosts"),
            paused=lambda: keyring.paused if keyring is not None else {},
            config_for=config_for(store.records, clock, policy, session_key, urls_for, ca_pem),
            holder=f"{socket.gethostname()}:{os.getpid()}",
            controllers=store.controllers if shared else None,
            urls=agent_urls,
            abilities=abilities_of(providers),
        )
        yield Controller(
            home=home,
            settings=settings,
            policy=policy,
            clock=clock,
            store=store,
            logs=logs,
            objects=objects,
            providers=providers,
            engine=engine,
            reach=reach,
            hosting=HostBook(store, named, reach, ours),
            keyring=keyring,
            controller_id=controller_id,
            secret_key=key,
            session_key=session_key,
        )
        await ours.close()
    finally:
        await store.close()


def _local(home: Home, settings: Settings, controller_id: str, shared: bool) -> LocalProvider:
    """Controllers of one host may share its machines; on one database they must know which host's they are."""
    machines = settings.local.folder(home.path)
    scope = f"local:{socket.gethostname()}:{machines}" if shared else "local"
    return LocalProvider(
        machines,
        controller_id,
        lambda: agent_bundle(home.cache),
        usd_per_hour=settings.local.usd_per_hour,
        scope=scope,
    )


async def _authority(store: Store, key: bytes) -> str:
    from .tls import authority

    return await authority(store.records, key)


def _check_shared(settings: Settings, environment: Mapping[str, str]) -> None:
    """Several controllers need everything that they share to be reachable by all of them."""
    if "://" not in settings.objects_url:
        raise InvalidRequest(
            "a PostgreSQL database needs a shared object store",
            hint="set RUNNER_OBJECTS_URL to an s3://, gs:// or az:// URL",
        )
    if not environment.get("RUNNER_SECRET_KEY"):
        raise InvalidRequest(
            "a PostgreSQL database needs a shared key", hint="set RUNNER_SECRET_KEY on every controller"
        )


def database_path(home: Home, settings: Settings) -> Path | None:
    """The SQLite file, or None for PostgreSQL."""
    url = settings.store_url or f"sqlite:///{home.database}"
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite") else None
