"""A whole web over a real store, served on real sockets, with a desk that the test plays; and a plain HTTP client."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import random
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from agent import wire
from provisioner.app.clock import SystemClock
from provisioner.domain.forge import NoForges
from provisioner.domain.ids import instance_name, new_id
from provisioner.domain.job import NO_REASON, Attempt, Instance, InstancePhase, Job, JobPhase, JobSpec
from provisioner.domain.offer import Market, Offer
from provisioner.domain.place import Ladder, Rung
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Wanted, WantedAttempt
from provisioner.engine.ghosts import GhostHunt
from provisioner.forges.registry import known
from provisioner.objects import open_objects
from provisioner.store.logs import FileLogs
from provisioner.store.open import SqlStore, open_store
from provisioner.web.listen import Listener
from provisioner.web.services import Services
from provisioner.web.sites import agents_site, control_site, people_site
from tests.fakes.desk import FakeDesk
from tests.fakes.hosting import FakeHosting
from tests.fakes.registrar import FakeRegistrar

T = TypeVar("T")
OFFER = Offer("local", "here", "here-a", "this", Market.ON_DEMAND, Decimal("0.5"), "settings", "here", 4, 8.0, 50.0)
FRAME = struct.Struct("<BIQId")


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def kind(self) -> str:
        return str(self.json["error"]["kind"])

    @property
    def message(self) -> str:
        return str(self.json["error"]["message"])


class Http:
    """One request a connection, in a thread, to a socket's path or a TCP port."""

    def __init__(self, where: Path | int, token: str = "", headers: Mapping[str, str] | None = None) -> None:
        self._where = where
        self.headers = dict(headers or {}) | ({"Authorization": f"Bearer {token}"} if token else {})

    def connect(self) -> http.client.HTTPConnection:
        if isinstance(self._where, int):
            return http.client.HTTPConnection("127.0.0.1", self._where, timeout=20)
        connection = http.client.HTTPConnection("localhost", timeout=20)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(20)
        connection.sock.connect(str(self._where))
        return connection

    async def call(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """`body`: bytes as they are, anything else as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()

        def work() -> Answer:
            connection = self.connect()
            try:
                connection.request(
                    method, path, data, {"Content-Type": "application/json", **self.headers, **(headers or {})}
                )
                answer = connection.getresponse()
                return Answer(answer.status, answer.read(), dict(answer.getheaders()))
            finally:
                connection.close()

        return await asyncio.to_thread(work)

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.call("GET", path, headers=headers)

    async def post(self, path: str, body: Any) -> Answer:
        return await self.call("POST", path, body)


class AgentClient(Http):
    """What an agent says, message by message."""

    async def say(self, route: str, message: Any, kind: type[T]) -> T:
        answer = await self.call("POST", f"/agent/v1/{route}", wire.encode(message))
        assert answer.status == 200, answer.body
        return wire.decode(kind, answer.body)

    async def sync(self, seen: int = -1, wait_s: float = 0.0, **more: Any) -> wire.Ought:
        return await self.say("sync", wire.Sync("boot", seen=seen, wait_s=wait_s, **more), wire.Ought)

    async def ask(self, attempt: Attempt, area: str, op: str, *items: wire.GrantItem, **more: Any) -> wire.Grants:
        message = wire.GrantAsk(attempt.job_id, attempt.number, area, op, list(items), **more)
        return await self.say("grants", message, wire.Grants)

    async def log(self, attempt: Attempt, offset: int, *pieces: tuple[int, bytes]) -> Answer:
        spans, at = [], offset
        for stream, data in pieces:
            spans.append((at, len(data), stream, 1000.0 + at))
            at += len(data)
        body = wire.pack_log(spans, b"".join(data for _, data in pieces))
        return await self.call("POST", f"/agent/v1/log/{attempt.job_id}/{attempt.number}?offset={offset}", body)


class Served:
    """Started by `serve`, closed by `close`."""

    def __init__(self, folder: Path, store: SqlStore, url: str, policy: Policy) -> None:
        self.folder = folder
        self.store = store
        self.desk = FakeDesk(ladder_now=Ladder((Rung(OFFER),)), last_pass_at=datetime.now(UTC))
        self.ended: list[str] = []
        self.trouble: tuple[datetime, str] | None = None
        self.bits = random.Random(7).getrandbits
        self.services = Services(
            store=store,
            desk=self.desk,
            logs=FileLogs(folder / "logs"),
            objects=open_objects(url),
            clock=SystemClock(),
            policy=policy,
            session_key=b"k" * 32,
            status=lambda: {"version": "0", "pid": 1},
            shutdown=self.ended.append,
            gc=self._gc,
            hosting=FakeHosting(),
            registrar=FakeRegistrar(),
            ghosts=GhostHunt(store, NoForges(), SystemClock()),
            kinds=known(),
            trouble=lambda: self.trouble,
        )
        self.listeners: list[Listener] = []

    async def start(self) -> None:
        control, agents = self.folder / "control.sock", self.folder / "agents.sock"
        self.listeners = [
            await Listener.unix(control_site(self.services), control),
            await Listener.unix(agents_site(self.services), agents),
            await Listener.tcp(people_site(self.services), "127.0.0.1", 0),
        ]
        self.control = Http(control, headers={"X-Runner-User": "ann"})
        self.agents = agents
        self.port = self.listeners[2].port

    async def close(self) -> None:
        for listener in self.listeners:
            await listener.close()
        await self.store.close()

    async def person(self, role: str, name: str = "bob") -> Http:
        made = await self.control.post("/api/v1/tokens", {"name": name, "role": role})
        return Http(self.port, made.json["token"])

    async def instance(self, owner: str = "ann", offer: Offer = OFFER) -> Instance:
        """A new one, moved up to READY."""
        now = self.services.clock.now()
        instance_id = new_id("ins", now, self.bits)
        row = Instance(instance_id, instance_name(instance_id), owner, InstancePhase.PLANNED, offer, now, now)
        row = await self.store.instances.plan(
            row, max_instances=100, max_usd_per_hour=Decimal(100), reserve_usd_per_hour=Decimal(0)
        )
        for phase in (InstancePhase.LAUNCHING, InstancePhase.BOOTING, InstancePhase.READY):
            row = await self.store.instances.advance(row, phase, NO_REASON, now)
        return row

    async def agent(self, instance: Instance) -> AgentClient:
        """Joined."""
        session = (await self.join(instance)).session
        return AgentClient(self.agents, session)

    async def join(self, instance: Instance, nonce: str = "nonce-one") -> wire.Joined:
        token = f"jt_{instance.id}"
        hashed = hashlib.sha256(token.encode()).hexdigest()
        await self.store.records.expect_join(instance.id, hashed, self.services.clock.now() + timedelta(hours=1))
        return await AgentClient(self.agents).say("join", wire.Join(instance.id, token, nonce), wire.Joined)

    async def job(self, spec: JobSpec | None = None, owner: str = "ann") -> Job:
        now = self.services.clock.now()
        job = Job(new_id("job", now, self.bits), owner, spec or JobSpec(run="true"), JobPhase.QUEUED, now)
        return await self.store.jobs.submit(job)

    async def assigned(self, job: Job, instance: Instance) -> Attempt:
        """And the desk wants it."""
        fresh = await self.store.instances.get(instance.id)
        attempt = await self.store.jobs.assign(await self.store.jobs.get(job.id), fresh, self.services.clock.now())
        self.desk.want(instance.id, Wanted(0, (WantedAttempt(await self.store.jobs.get(job.id), attempt),)))
        return attempt

    async def running(self, spec: JobSpec | None = None) -> tuple[AgentClient, Attempt]:
        """A joined agent with one assigned attempt."""
        instance = await self.instance()
        return await self.agent(instance), await self.assigned(await self.job(spec), instance)

    async def _gc(self, dry_run: bool, expired: bool) -> dict[str, Any]:
        return {"found": ["m"], "ended": [] if dry_run else ["m"]}


async def serve(folder: Path, objects_url: str = "", policy: Policy | None = None) -> Served:
    store = await open_store(f"sqlite:///{folder / 'runner.db'}", secret_key=b"s" * 32, home=folder)
    served = Served(
        folder, store, objects_url or str(folder / "objects"), policy or replace(Policy(), agent_poll_s=5.0)
    )
    await served.start()
    return served


def parsed(stream: bytes) -> list[tuple[int, int, int, bytes]]:
    """(stream, offset, attempt, bytes) of each whole frame."""
    found, at = [], 0
    while at + FRAME.size <= len(stream):
        kind, length, offset, attempt, _ = FRAME.unpack_from(stream, at)
        found.append((kind, offset, attempt, stream[at + FRAME.size : at + FRAME.size + length]))
        at += FRAME.size + length
    return found
