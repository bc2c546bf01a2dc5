"""`runner serve`, and the embedded controller, which is the same thing without a TCP listener.

Ends on SIGTERM, SIGINT, a shutdown request, or, when embedded, once there has been nothing to look after for a while.
Jobs and machines go on whatever ends it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog

from provisioner import __version__
from provisioner.bootstrap.bundle import agent_bundle, digest
from provisioner.domain.errors import ForgeError, InvalidRequest
from provisioner.domain.forge import Site
from provisioner.domain.job import JobPhase
from provisioner.engine.sites import ends
from provisioner.forge_settings import LOOPBACK
from provisioner.web.listen import Listener
from provisioner.web.services import Services
from provisioner.web.sites import agents_site, control_site, people_site

from . import memory
from .ask import step_down
from .aws import note_own
from .compose import Controller, composed
from .home import Home
from .open_files import raise_limit
from .retention import Retention
from .step import Step
from .watch import watched
from .webhooks import expected

_log = structlog.get_logger()
# After which nobody waits for a runner's record to go. Source: GitHub removes an ephemeral one that is offline itself.
_FORGES_KEEP = timedelta(days=1)
_TAKES_OVER_S = 60.0  # an embedded one may be slow to start, and then takes up to ten seconds to leave; arbitrary


@dataclass(frozen=True)
class ServeOptions:
    """`tls` is "" (none), "auto" (a leaf of the controller's own authority) or "CERT,KEY" (files). `step_of`: this one
    is a CI step's own, with a home that goes with it; what outlives the step is in that folder."""

    home: Path
    step_of: Path | None = None
    embedded: bool = False
    host: str = "127.0.0.1"
    port: int = 8765
    tls: str = ""


async def serve(options: ServeOptions, environment: Mapping[str, str]) -> None:
    """Run until told to end. Raises: RequestError or StoreError when it cannot start."""
    if not options.embedded and options.host not in LOOPBACK and not options.tls:
        raise InvalidRequest(
            f"refusing to serve on {options.host} without TLS", hint="add --tls auto, or --tls CERT,KEY"
        )
    raise_limit()
    home = Home(options.home, options.step_of)
    home.make()
    with home.held() if options.embedded else home.held(_TAKES_OVER_S, lambda: step_down(home)):
        served, own_tls = not options.embedded, options.tls == "auto"
        async with composed(home, environment, served=served, own_tls=own_tls) as controller:
            await _Serving(controller, options).run()
    if options.step_of is not None:
        shutil.rmtree(home.path, ignore_errors=True)


class _Serving:
    """One controller's listeners and loops, from first to last."""

    def __init__(self, controller: Controller, options: ServeOptions) -> None:
        self._controller = controller
        self._options = options
        self._ending = asyncio.Event()
        self._began_at = controller.clock.now()
        self._idle_since = controller.clock.monotonic()
        self._trouble: tuple[datetime, str] | None = None

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        controller = self._controller
        step = Step(controller) if self._options.step_of is not None else None
        for number in (signal.SIGTERM, signal.SIGINT):
            name = signal.Signals(number).name
            loop.add_signal_handler(number, step.gone if step is not None else self._end, name)
        listeners = await self._listeners(self._services(step))
        try:
            async with asyncio.TaskGroup() as group:
                duties = [
                    group.create_task(watched("engine", controller.engine.run, self._crashed)),
                    group.create_task(watched("demand", controller.engine.demand.run, self._crashed)),
                    group.create_task(watched("retention", self._retain)),
                    group.create_task(watched("reach", controller.clouds.reach.run)),
                    group.create_task(watched("idle", self._watch_idle)),
                ]
                if controller.clouds.keyring is not None:
                    duties.append(group.create_task(watched("credentials", controller.clouds.keyring.watch)))
                elif "aws" in controller.clouds.providers:
                    duties.append(group.create_task(watched("identity", self._note_own)))
                if step is not None:
                    duties.append(group.create_task(self._with_step(step)))
                memory.settle()
                at = [f"{self._options.host}:{listener.port}" for listener in listeners if not listener.local]
                _log.info("controller.ready", pid=os.getpid(), home=str(controller.home.path), at=at)
                await self._ending.wait()
                for listener in listeners:
                    await listener.close()
                for duty in duties:
                    duty.cancel()
            if step is not None:
                await step.shut_doors()
        finally:
            for listener in listeners:
                await listener.close()
        _log.info("controller.ended")

    async def _with_step(self, step: Step) -> None:
        self._end(await step.run())

    def _end(self, why: str) -> None:
        _log.info("controller.ending", why=why)
        self._ending.set()

    def _crashed(self, what: str) -> None:
        self._trouble = (self._controller.clock.now(), what)

    def _services(self, step: Step | None) -> Services:
        c = self._controller
        return Services(
            store=c.store,
            desk=c.engine.desk,
            logs=c.logs,
            objects=c.objects,
            clock=c.clock,
            policy=c.policy,
            session_key=c.session_key,
            status=self._status,
            shutdown=self._end,
            gc=self._gc,
            hosting=c.clouds.hosting,
            registrar=c.engine.runners,
            ghosts=c.engine.runners.sites.ghosts,
            kinds=c.kinds,
            trouble=lambda: self._trouble,
            agent_urls=lambda: c.engine.urls,
            public_url="" if self._options.embedded else c.settings.public_url,
            agent_file=self._agent_file,
            keyring=c.clouds.keyring,
            forge_keyring=c.forges if self._options.embedded else None,
            ci=c.ci,
            paused=self._paused,
            warnings=self._warnings,
            webhooks=expected(c.settings.forges, c.home.path, c.kinds),
            demand=c.engine.demand,
            hand_overs=step,
        )

    def _paused(self) -> dict[str, str]:
        """For whoever asks, token or not: what a cloud says of our rights stays with those who may look at jobs."""
        c = self._controller
        ours = c.clouds.keyring.paused if c.clouds.keyring is not None else {}
        refused = "refuses our rights; `runner why` of a job that waits says how"
        clouds = {name: ours.get(name, f"{name} is paused: it {refused}") for name in c.engine.market.paused}
        sites = c.engine.runners.sites.trouble
        if self._options.embedded:
            return clouds | {site.url: f"no runners at {site}: {why}" for site, why in sites.items()}
        return clouds | (
            {"forges": f"a forge does not answer, refuses its runner program's version, or {refused}"} if sites else {}
        )

    def _warnings(self) -> list[str]:
        """For whoever asks, token or not: which forge it is stays with those who may look at events."""
        ending, named = self._controller.engine.runners.sites.ending, self._options.embedded
        return sorted({ends(site.host if named else "a forge", software) for site, software in ending.items()})

    def _agent_file(self, sha256: str) -> Path | None:
        return agent_bundle(self._controller.home.cache) if sha256 == digest() else None

    async def _gc(self, dry_run: bool, expired: bool) -> dict[str, Any]:
        return await self._controller.engine.collect_now(dry_run=dry_run, expired=expired)

    async def _listeners(self, services: Services) -> list[Listener]:
        home = self._controller.home
        listeners = [
            await Listener.unix(agents_site(services), home.agents_socket),
            await Listener.unix(control_site(services), home.control_socket),
        ]
        if not self._options.embedded:
            context = await self._tls()
            listeners.append(await Listener.tcp(people_site(services), self._options.host, self._options.port, context))
        return listeners

    async def _tls(self) -> ssl.SSLContext | None:
        if not self._options.tls:
            return None
        if self._options.tls == "auto":
            from .tls import leaf

            controller = self._controller
            public = urlsplit(controller.settings.public_url).hostname or "localhost"
            names = list(dict.fromkeys([self._options.host, "localhost", "127.0.0.1", public]))
            cert, key, ca = await leaf(
                controller.store.records, controller.secret_key, controller.home.path / "tls", names
            )
            _log.info("controller.authority", file=str(ca))
        else:
            cert, key = (Path(name) for name in (*self._options.tls.split(",", 1), "")[:2])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(cert, key)
        except (OSError, ssl.SSLError) as error:
            raise InvalidRequest(
                f"cannot load the certificate: {error}", hint="--tls CERT,KEY names two PEM files"
            ) from error
        return context

    def _status(self) -> dict[str, Any]:
        c = self._controller
        more = {"credentials": c.clouds.keyring.wanted()} if c.clouds.keyring is not None else {}
        lost = {
            site.base: {"kind": str(site.kind), "opened": False, "variable": ""}
            for site in c.engine.runners.sites.trouble
        }
        more |= {"forges": lost | c.forges.wanted()}
        return more | {
            "version": __version__,
            "controller_id": c.controller_id,
            "pid": os.getpid(),
            "started_at": self._began_at.isoformat(),
            "embedded": self._options.embedded,
            "home": str(c.home.path),
            "objects": c.objects.url,
            "database": c.settings.store_url.split("@")[-1] or f"sqlite:///{c.home.database}",
            "max_usd_per_hour": str(c.policy.max_usd_per_hour),
            "max_instances": c.policy.max_instances,
            "providers": list(c.clouds.providers),
            "paused": c.engine.market.paused,
        }

    async def _note_own(self) -> None:
        c = self._controller
        await note_own(c.settings, c.clock, c.store.records)

    async def _retain(self) -> None:
        c = self._controller
        retention = Retention(c.store, c.logs, c.objects, c.policy)
        while True:
            await asyncio.sleep(retention.every_s)
            await retention.run_once(c.clock.now())

    async def _watch_idle(self) -> None:
        """An embedded controller leaves once nothing has needed it for `embedded_idle_s`."""
        c = self._controller
        while self._options.embedded:
            await asyncio.sleep(min(30.0, c.policy.embedded_idle_s / 4))
            now_s = c.clock.monotonic()
            if await self._needed():
                self._idle_since = now_s
            elif now_s - self._idle_since > c.policy.embedded_idle_s:
                self._end("nothing to look after")

    async def _needed(self) -> bool:
        store = self._controller.store
        if self._controller.engine.demand.pools:
            return True
        if await store.instances.find(limit=1):
            return True
        since = self._controller.clock.now() - _FORGES_KEEP
        if any(row.asked_at > since and self._opened(row.site) for row in await store.runners.there()):
            return True
        return bool(await store.jobs.find(phases=(JobPhase.QUEUED, JobPhase.RUNNING, JobPhase.HELD), limit=1))

    def _opened(self, site: Site) -> bool:
        """A runner's record at a forge that it has no rights to waits for a command, which brings them along."""
        try:
            self._controller.forges.of(site)
        except ForgeError:
            return False
        return True
