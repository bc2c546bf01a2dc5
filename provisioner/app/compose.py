"""Everything that a running controller consists of, made in order and taken down in reverse."""

from __future__ import annotations

import hashlib
import hmac
import os
import random
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from provisioner.domain.errors import InvalidRequest
from provisioner.domain.kinds import Kinds
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Logs, Objects
from provisioner.domain.store import Store
from provisioner.engine import Engine
from provisioner.forges.registry import known
from provisioner.objects import open_objects
from provisioner.pool_settings import make_pools
from provisioner.settings import Settings, load, secret_key
from provisioner.store.logs import FileLogs
from provisioner.store.open import open_store
from provisioner.store.sealed import SealedLogs

from .abilities import abilities_of
from .ci import Door, door
from .clock import SystemClock
from .clouds import Clouds, Ground
from .forges import OpenForges
from .home import Home
from .join import Joining, limits_of_step
from .open_files import logs_open
from .queues import queues
from .redelivery import redelivers


@dataclass(frozen=True)
class Controller:
    """The parts, for those who start loops and listeners over them."""

    home: Home
    settings: Settings
    kinds: Kinds
    policy: Policy
    clock: SystemClock
    store: Store
    logs: Logs
    objects: Objects
    clouds: Clouds
    forges: OpenForges
    ci: Door | None
    engine: Engine
    controller_id: str
    secret_key: bytes
    session_key: bytes


@asynccontextmanager
async def composed(
    home: Home, environment: Mapping[str, str], *, served: bool = False, own_tls: bool = False
) -> AsyncIterator[Controller]:
    """`served`: it has a TCP port; `own_tls`: under our own authority. Raises: RequestError, StoreError."""
    kinds = known()
    settings = load(home.lasting or home.path, environment, kinds)
    if home.lasting is not None:
        settings = settings.of_step(home.lasting)
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
        logs: Logs = SealedLogs(store.database, objects) if shared else FileLogs(home.logs, logs_open())
        ground = Ground(
            home, settings, policy, clock, store, controller_id, key, session_key, agent_urls, shared, served
        )
        clouds = Clouds(ground)
        forges = OpenForges(
            settings.forges, home.lasting or home.path, environment, clock, handed=not served, kinds=kinds
        )
        ci = door(settings.ci, settings.public_url, forges, clock, session_key, kinds) if served else None
        pools = make_pools(settings.pools, kinds, {one.url.partition("://")[2]: one.kind for one in settings.forges})
        await clouds.open()
        limits = partial(limits_of_step, store, policy) if home.lasting is not None else None
        joining = Joining(store.records, clock, policy, session_key, clouds.urls, ca_pem, limits)
        engine = Engine(
            store=store,
            providers=clouds.providers,
            clock=clock,
            policy=policy,
            rng=random.SystemRandom(),
            default_providers=clouds.usual,
            paused=lambda: clouds.paused,
            config_for=joining.config,
            launched=joining.launched,
            holder=f"{socket.gethostname()}:{os.getpid()}",
            controllers=store.controllers if shared else None,
            urls=agent_urls,
            abilities=abilities_of(clouds.providers),
            forges=forges,
            pools=pools,
            redelivers=redelivers(settings, pools, forges, kinds) if served else None,
            queues=queues(pools, forges),
            allowed=ci.as_now if ci is not None else None,
        )
        forges.resume = engine.runners.resume
        clouds.serve_under(engine)
        try:
            yield Controller(
                home=home,
                settings=settings,
                kinds=kinds,
                policy=policy,
                clock=clock,
                store=store,
                logs=logs,
                objects=objects,
                clouds=clouds,
                forges=forges,
                ci=ci,
                engine=engine,
                controller_id=controller_id,
                secret_key=key,
                session_key=session_key,
            )
        finally:
            await clouds.close()
            await forges.close()
            if ci is not None:
                await ci.close()
    finally:
        await store.close()


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
