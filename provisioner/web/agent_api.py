"""The agents' routes: plain Starlette, because thousands of idle agents are held open here at once.

A sync goes to the desk as a report, waits there until something else is wanted or its time is over, and is answered
with what ought to be. Only this module speaks the wire; what an agent may touch is decided by its neighbours.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from agent import wire
from provisioner.domain.errors import InvalidRequest, NotFound
from provisioner.domain.facts import AttemptReport, GpuEvent, Report
from provisioner.domain.job import Attempt, AttemptPhase, Job
from provisioner.domain.ports import LogSpan, ManifestRow, WantedAttempt

from .agent_access import AgentAccess
from .body import store_stream, whole
from .grants import (
    EXPIRES_S,
    MOST_ITEMS,
    STANDING_S,
    Granted,
    Granting,
    Item,
    checked_put_key,
    input_behind,
    prefix_of,
    readable,
)
from .manifests import Manifests
from .serve_object import streamed
from .services import Services
from .submit import JOB_ID, SHA256

PROTOCOL = wire.PROTOCOL
T = TypeVar("T")
Handler = Callable[[Request, str], Awaitable[Response]]

# Bytes of a body; arbitrary, far above what an honest agent sends.
_JOIN_LIMIT, _SYNC_LIMIT, _MANIFEST_LIMIT, _READINGS_LIMIT = 2**18, 2**20, 2**26, 2**22
_LOG_LIMIT = 4 * 2**20 + 2**20  # data, and its index
_LOG_SLACK = 2**20  # what the agent may say of its own past a job's log limit
_SPREAD = 0.2  # of the poll's length, so that agents that came together do not stay together; arbitrary
_MOST_ATTEMPTS, _MOST_READINGS, _MOST_GPU_EVENTS = 64, 10_000, 100
_LONGEST_TEXT = 4000
_OLDEST_READING_S = 30 * 86400.0


def agent_routes(services: Services) -> list[Route]:
    """All of `wire`'s routes."""
    routes = AgentRoutes(services)
    return [
        Route("/agent/v1/sync", routes.authenticated(routes.sync), methods=["POST"]),
        Route("/agent/v1/log/{job}/{number:int}", routes.authenticated(routes.log), methods=["POST"]),
        Route("/agent/v1/join", routes.join, methods=["POST"]),
        Route(wire.AGENT_PATH.replace("{sha256}", "{sha256:str}"), routes.agent_file, methods=["GET"]),
        Route("/agent/v1/grants", routes.authenticated(routes.grants), methods=["POST"]),
        Route("/agent/v1/manifest", routes.authenticated(routes.manifest), methods=["POST"]),
        Route("/agent/v1/readings", routes.authenticated(routes.readings), methods=["POST"]),
        Route("/agent/v1/objects/{key:path}", routes.authenticated(routes.put_object), methods=["PUT"]),
        Route("/agent/v1/objects/{key:path}", routes.authenticated(routes.get_object), methods=["GET"]),
    ]


class AgentRoutes:
    """One handler a route. Each is given the instance whose session came with the request."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._access = AgentAccess(services)
        self._granting = Granting(services)
        self._manifests = Manifests(services)

    def authenticated(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            return await handler(request, await self._access.instance(request))

        return handle

    async def join(self, request: Request) -> Response:
        message = _decoded(wire.Join, await whole(request, _JOIN_LIMIT))
        _check_protocol(message.protocol)
        if not (8 <= len(message.nonce) <= 200 and 0 < len(message.token) <= 200 and 0 < len(message.instance) <= 200):
            raise InvalidRequest("a join takes an instance, a token, and a nonce of 8 characters or more")
        return _answer(wire.Joined(await self._access.join(message.instance, message.token, message.nonce)))

    async def agent_file(self, request: Request) -> Response:
        """For a machine at its first boot. Nothing in it is secret, and its name is its digest."""
        path = self._services.agent_file(request.path_params["sha256"])
        if path is None:
            raise NotFound("this controller has another agent")
        return FileResponse(path, media_type="application/zip")

    async def sync(self, request: Request, instance_id: str) -> Response:
        services, desk = self._services, self._services.desk
        message = _decoded(wire.Sync, await whole(request, _SYNC_LIMIT))
        _check_protocol(message.protocol)
        if len(message.attempts) > _MOST_ATTEMPTS:
            raise InvalidRequest(f"more than {_MOST_ATTEMPTS} attempts")
        services.traffic.syncs += 1
        services.traffic.heard[instance_id] = services.clock.monotonic()
        desk.heard(instance_id, self._report(message))
        wait_s = min(message.wait_s, services.policy.agent_poll_s) if math.isfinite(message.wait_s) else 0.0
        if wait_s > 0:
            await services.ending.hold(desk.wait(instance_id, message.seen, wait_s))
        wanted = await desk.wanted(instance_id)
        reported = {(told.job, told.number) for told in message.attempts}
        ought = wire.Ought(
            version=wanted.version,
            attempts=[await self._ought(instance_id, one, reported) for one in wanted.attempts],
            drain=wanted.drain,
            end=wanted.end,
            poll_s=services.policy.agent_poll_s * (1.0 - _SPREAD * services.bits(10) / 1024),
            urls=list(services.agent_urls()),
        )
        if wanted.end:
            services.traffic.heard.pop(instance_id, None)
        return _answer(ought)

    async def log(self, request: Request, instance_id: str) -> Response:
        """Late bytes of an ended attempt are taken as well: they are the end of its own log."""
        job_id, number = request.path_params["job"], request.path_params["number"]
        offset = request.query_params.get("offset", "")
        if not offset.isdecimal() or len(offset) > 18:
            raise InvalidRequest("offset: not a number of bytes")
        owned = await self._access.owned(instance_id, job_id, number)
        spans, data = _unpacked(await whole(request, _LOG_LIMIT), int(offset))
        if int(offset) + len(data) > owned.log_limit_bytes + _LOG_SLACK:
            received, safe = await self._services.logs.offsets(job_id, number)
            return _answer(wire.LogAck(received, safe, refused="the job's log limit is reached"))
        received, safe = await self._services.logs.append(job_id, number, int(offset), spans, data)
        self._services.traffic.log_bytes += len(data)
        return _answer(wire.LogAck(received, safe))

    async def grants(self, request: Request, instance_id: str) -> Response:
        ask = _decoded(wire.GrantAsk, await whole(request, _MANIFEST_LIMIT))
        if len(ask.items) > MOST_ITEMS or len(ask.uploads) > MOST_ITEMS:
            raise InvalidRequest(f"more than {MOST_ITEMS} items in one ask")
        job, attempt = await self._access.live(instance_id, ask.job, ask.number)
        if ask.area == "checkpoints":
            async with self._manifests.turn(job.id):
                return _answer(await self._grant(ask, job, attempt))
        return _answer(await self._grant(ask, job, attempt))

    async def manifest(self, request: Request, instance_id: str) -> Response:
        message = _decoded(wire.Manifest, await whole(request, _MANIFEST_LIMIT))
        await self._access.live(instance_id, message.job, message.number)
        prefix_of(message.area, message.job, message.number)
        row = ManifestRow(
            message.job,
            message.number,
            message.area,
            message.sequence,
            message.final,
            self._services.clock.now(),
            dataclasses.asdict(message),
        )
        await self._manifests.accept(row)
        return Response(b"{}", media_type="application/json")

    async def readings(self, request: Request, instance_id: str) -> Response:
        message = _decoded(wire.Readings, await whole(request, _READINGS_LIMIT))
        if len(message.rows) > _MOST_READINGS:
            raise InvalidRequest(f"more than {_MOST_READINGS} rows")
        if message.job:
            await self._access.owned(instance_id, message.job, message.number)
        now = self._services.clock.now()
        rows = [(now - timedelta(seconds=ago_s), values) for ago_s, values in map(_reading, message.rows)]
        await self._services.store.records.add_readings(message.job, message.number, instance_id, rows)
        return Response(b"{}", media_type="application/json")

    async def put_object(self, request: Request, instance_id: str) -> Response:
        """`results/JOB/NUMBER/...` or `checkpoints/JOB/SHA256`, of a live attempt."""
        area, _, rest = str(request.path_params["key"]).partition("/")
        job_id, _, below = rest.partition("/")
        if area == "results":
            number, _, below = below.partition("/")
            _, attempt = await self._access.live(instance_id, job_id, _number(number))
        elif area == "checkpoints":
            _, attempt = await self._access.live_of_job(instance_id, job_id)
        else:
            raise NotFound("nothing can be written there")
        key = checked_put_key(area, below)
        sha256 = key if SHA256.fullmatch(key) else ""
        await store_stream(request, self._services.objects, f"{prefix_of(area, job_id, attempt.number)}/{key}", sha256)
        return Response(status_code=201)

    async def get_object(self, request: Request, instance_id: str) -> Response:
        """The workspace, own checkpoints and results, and inputs that cannot be signed."""
        key, range_header = request.path_params["key"], request.headers.get("range")
        area, _, rest = key.partition("/")
        if area == "blobs":
            for job, attempt in await self._own(instance_id):
                if job.spec.workspace is not None and job.spec.workspace.sha256 == rest:
                    return await streamed(
                        self._services.objects, readable("workspace", job, attempt, rest), range_header
                    )
            raise NotFound("no such workspace here")
        job_id, _, below = rest.partition("/")
        if area == "inputs":
            number, _, below = below.partition("/")
            job, _ = await self._access.live(instance_id, job_id, _number(number))
            index, _, below = below.partition("/")
            store, source = await input_behind(self._services, job, _number(index), below)
            return await streamed(store, source, range_header)
        job, attempt = await self._access.live_of_job(instance_id, job_id)
        return await streamed(self._services.objects, readable(area, job, attempt, key), range_header)

    async def _own(self, instance_id: str) -> list[tuple[Job, Attempt]]:
        wanted = await self._services.desk.wanted(instance_id)
        return [(one.job, one.attempt) for one in wanted.attempts if one.job is not None and not one.forget]

    async def _grant(self, ask: wire.GrantAsk, job: Job, attempt: Attempt) -> wire.Grants:
        items = [Item(item.key, item.size, item.sha256) for item in ask.items]
        granting = self._granting
        match ask.op:
            case "put":
                granted = await granting.put(ask.area, job, attempt, items)
            case "standing":
                return wire.Grants([], STANDING_S, await granting.post(ask.area, job, attempt))
            case "get":
                granted = await granting.get(ask.area, job, attempt, items)
            case "list" if ask.area == "inputs":
                granted = await granting.list(job, attempt, items)
            case "complete":
                await granting.complete(ask.area, job, attempt, ask.uploads)
                granted = []
            case _:
                raise InvalidRequest(f"op {ask.op[:40]!r} of {ask.area[:40]!r} is not known")
        return wire.Grants([_grant(one) for one in granted], EXPIRES_S)

    def _report(self, message: wire.Sync) -> Report:
        return Report(
            heard_at=self._services.clock.now(),
            boot_id=message.boot_id[:200],
            healthy=message.healthy,
            unhealthy_why=message.unhealthy_why[:_LONGEST_TEXT],
            unhealthy_code=message.unhealthy_code[:80],
            drained=message.drained,
            notice=message.notice[:_LONGEST_TEXT],
            attempts=tuple(_attempt_report(told) for told in message.attempts),
            unsent_bytes=message.unsent_bytes,
            sequence=message.sequence,
        )

    async def _ought(self, instance_id: str, one: WantedAttempt, reported: set[tuple[str, int]]) -> wire.AttemptOught:
        job_id, number = one.attempt.job_id, one.attempt.number
        received, safe = 0, 0
        if one.job is not None and one.attempt.instance_id == instance_id:
            received, safe = await self._services.logs.offsets(job_id, number)
        order = None
        if one.job is not None and not one.forget and (job_id, number) not in reported:
            if not await self._is_live(one.attempt):
                return wire.AttemptOught(job_id, number, forget=True)
            order = await self._order(one.job, one.attempt)
        return wire.AttemptOught(job_id, number, order, one.cancel, one.forget, received, safe)

    async def _is_live(self, attempt: Attempt) -> bool:
        """What runs must be ordered once: where several controllers share the store, the desk may not know yet that
        another has seen the attempt's end."""
        now = await self._services.store.jobs.attempt(attempt.job_id, attempt.number)
        if now.phase is not AttemptPhase.ENDED:
            return True
        self._services.desk.poke()
        return False

    async def _order(self, job: Job, attempt: Attempt) -> wire.Order:
        """All that it takes to run one attempt; the only message with secrets in it."""
        spec, records, policy = job.spec, self._services.store.records, self._services.policy
        secrets = await records.secrets(job.owner, spec.secrets, job_id=job.id) if spec.secrets else {}
        checkpoints = await records.manifests(job.id, "checkpoints") if spec.checkpoint else []
        instance = await self._services.store.instances.get(attempt.instance_id)
        return wire.Order(
            job=job.id,
            number=attempt.number,
            run=spec.run if isinstance(spec.run, str) else list(spec.run),
            setup=spec.setup,
            env={**spec.env, **spec.params},
            shell_env=dict(spec.shell_env) if instance.offer.provider == "local" else {},
            secrets=secrets,
            workspace=spec.workspace.sha256 if spec.workspace else "",
            workspace_size=spec.workspace.size if spec.workspace else 0,
            inputs=[wire.InputOrder(one.source, one.to) for one in spec.inputs],
            outputs=list(spec.outputs),
            outputs_every_s=policy.outputs_every_s,
            checkpoint_path=spec.checkpoint.path if spec.checkpoint else "",
            checkpoint_every_s=spec.checkpoint.every_s if spec.checkpoint else 300.0,
            checkpoint=dict(checkpoints[-1].body) if checkpoints else None,
            timeout_s=spec.timeout_s,
            grace_s=policy.cancel_grace_s,
            tty=spec.tty,
            sudo=spec.sudo,
            log_limit_bytes=spec.log_limit_bytes,
        )


def _decoded(kind: type[T], body: bytes) -> T:
    """Raises: InvalidRequest."""
    try:
        message = wire.decode(kind, body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"not a {kind.__name__}: {str(error)[:200]}") from error
    if not dataclasses.is_dataclass(message):
        raise InvalidRequest(f"not a {kind.__name__}")
    return message


def _answer(message: Any) -> Response:
    return Response(wire.encode(message), media_type="application/json")


def _check_protocol(number: int) -> None:
    if number not in (PROTOCOL, PROTOCOL - 1):
        raise InvalidRequest(f"this controller speaks protocol {PROTOCOL}, not {number}")


def _attempt_report(told: wire.AttemptState) -> AttemptReport:
    if not JOB_ID.fullmatch(told.job) or told.number < 1:
        raise InvalidRequest("an attempt names a job and a number from 1")
    complete = {"results_complete": told.results_complete, "log_complete": told.log_complete}
    return AttemptReport(
        told.job,
        told.number,
        told.phase[:40],
        told.exit_code,
        told.why[:80],
        told.detail[:_LONGEST_TEXT],
        told.log_size,
        {**told.facts, **complete},
        tuple(_gpu_event(one) for one in told.gpu_events[:_MOST_GPU_EVENTS]),
    )


def _gpu_event(told: wire.GpuEvent) -> GpuEvent:
    return GpuEvent(told.what[:40], told.gpu[:80], told.code[:40], told.message[:_LONGEST_TEXT])


def _unpacked(body: bytes, offset: int) -> tuple[list[LogSpan], memoryview]:
    """Raises: InvalidRequest unless the spans cover the bytes from `offset` on without a gap."""
    try:
        spans, data = wire.unpack_log(body)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error
    expected = offset
    for start, length, stream, at in spans:
        if start != expected or stream not in (wire.STDOUT, wire.STDERR) or not math.isfinite(at):
            raise InvalidRequest("the log's index has a gap, or an unknown stream")
        expected += length
    return [LogSpan(*span) for span in spans], data


def _reading(row: list[Any]) -> tuple[float, dict[str, Any]]:
    match row:
        case [int() | float() as ago_s, dict() as values] if 0 <= ago_s <= _OLDEST_READING_S:
            return float(ago_s), values
    raise InvalidRequest("a reading is [seconds ago, {...}]")


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 6:
        raise NotFound("no such attempt")
    return int(text)


def _grant(one: Granted) -> wire.Grant:
    return wire.Grant(
        one.key,
        one.url,
        one.method,
        dict(one.headers),
        one.exists,
        one.size,
        one.sha256,
        one.part_size,
        list(one.parts),
        one.upload_id,
    )
