"""The agents' routes: plain Starlette, because thousands of idle agents are held open here at once.

A sync goes to the desk as a report, waits there until something else is wanted or its time is over, and is answered
with what ought to be. Only this package speaks the wire; what an agent may touch is decided by its neighbours.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Awaitable, Callable
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from agent import wire
from provisioner.domain.errors import InvalidRequest, NotFound
from provisioner.domain.job import Attempt, Job
from provisioner.domain.store import ManifestRow

from ..agent_access import AgentAccess
from ..body import Strangers, store_stream, whole
from ..grants import (
    EXPIRES_S,
    MOST_ITEMS,
    STANDING_S,
    Granting,
    Item,
    checked_put_key,
    input_behind,
    prefix_of,
    readable,
)
from ..manifests import Manifests
from ..serve_object import streamed
from ..services import Services
from ..submit import SHA256
from .messages import (
    answer,
    attempt_number,
    check_protocol,
    decoded,
    grant_of,
    hand_over_of,
    reading,
    report_of,
    unpacked,
)
from .orders import Orders

Handler = Callable[[Request, str], Awaitable[Response]]

# Bytes of a body; arbitrary, far above what an honest agent sends.
_JOIN_LIMIT, _SYNC_LIMIT, _MANIFEST_LIMIT, _READINGS_LIMIT = 2**18, 2**20, 2**26, 2**22
_LOG_LIMIT = 4 * 2**20 + 2**20  # data, and its index
_LOG_SLACK = 2**20  # what the agent may say of its own past a job's log limit
_SPREAD = 0.2  # of the poll's length, so that agents that came together do not stay together; arbitrary
_MOST_ATTEMPTS, _MOST_READINGS = 64, 10_000


def agent_routes(services: Services) -> list[Route]:
    """All of `wire`'s routes."""
    routes = AgentRoutes(services)
    return [
        Route("/agent/v1/sync", routes.authenticated(routes.sync), methods=["POST"]),
        Route("/agent/v1/log/{job}/{number}", routes.authenticated(routes.log), methods=["POST"]),
        Route("/agent/v1/join", routes.join, methods=["POST"]),
        Route(wire.AGENT_PATH.replace("{sha256}", "{sha256:str}"), routes.agent_file, methods=["GET"]),
        Route("/agent/v1/grants", routes.authenticated(routes.grants), methods=["POST"]),
        Route("/agent/v1/manifest", routes.authenticated(routes.manifest), methods=["POST"]),
        Route("/agent/v1/runner", routes.authenticated(routes.runner), methods=["POST"]),
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
        self._orders = Orders(services)
        self._joining = Strangers()

    def authenticated(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            return await handler(request, await self._access.instance(request))

        return handle

    async def join(self, request: Request) -> Response:
        async with self._joining.whole(request, _JOIN_LIMIT) as body:
            message = decoded(wire.Join, body)
        check_protocol(message.protocol)
        if not (8 <= len(message.nonce) <= 200 and 0 < len(message.token) <= 200 and 0 < len(message.instance) <= 200):
            raise InvalidRequest("a join takes an instance, a token, and a nonce of 8 characters or more")
        return answer(wire.Joined(await self._access.join(message.instance, message.token, message.nonce)))

    async def agent_file(self, request: Request) -> Response:
        """For a machine at its first boot. Nothing in it is secret, and its name is its digest."""
        path = self._services.agent_file(request.path_params["sha256"])
        if path is None:
            raise NotFound("this controller has another agent")
        return FileResponse(path, media_type="application/zip")

    async def sync(self, request: Request, instance_id: str) -> Response:
        services, desk = self._services, self._services.desk
        message = decoded(wire.Sync, await whole(request, _SYNC_LIMIT))
        check_protocol(message.protocol)
        if len(message.attempts) > _MOST_ATTEMPTS:
            raise InvalidRequest(f"more than {_MOST_ATTEMPTS} attempts")
        services.traffic.syncs += 1
        services.traffic.heard[instance_id] = services.clock.monotonic()
        desk.heard(instance_id, report_of(message, services.clock.now()))
        wait_s = min(message.wait_s, services.policy.agent_poll_s) if math.isfinite(message.wait_s) else 0.0
        if wait_s > 0:
            await services.ending.hold(desk.wait(instance_id, message.seen, wait_s))
        wanted = await desk.wanted(instance_id)
        reported = {(told.job, told.number) for told in message.attempts}
        ought = wire.Ought(
            version=wanted.version,
            attempts=[await self._orders.ought(instance_id, one, reported) for one in wanted.attempts],
            drain=wanted.drain,
            end=wanted.end,
            poll_s=services.policy.agent_poll_s * (1.0 - _SPREAD * services.bits(10) / 1024),
            urls=list(services.agent_urls()),
            hand_over=hand_over_of(wanted.hand_over),
        )
        if wanted.end:
            services.traffic.heard.pop(instance_id, None)
        return answer(ought)

    async def log(self, request: Request, instance_id: str) -> Response:
        """Late bytes of an ended attempt are taken as well: they are the end of its own log."""
        job_id, number = request.path_params["job"], attempt_number(request.path_params["number"])
        offset = request.query_params.get("offset", "")
        if not offset.isdecimal() or len(offset) > 18:
            raise InvalidRequest("offset: not a number of bytes")
        owned = await self._access.owned(instance_id, job_id, number)
        spans, data = unpacked(await whole(request, _LOG_LIMIT), int(offset))
        if int(offset) + len(data) > owned.log_limit_bytes + _LOG_SLACK:
            received, safe = await self._services.logs.offsets(job_id, number)
            return answer(wire.LogAck(received, safe, refused="the job's log limit is reached"))
        received, safe = await self._services.logs.append(job_id, number, int(offset), spans, data)
        self._services.traffic.log_bytes += len(data)
        return answer(wire.LogAck(received, safe))

    async def grants(self, request: Request, instance_id: str) -> Response:
        ask = decoded(wire.GrantAsk, await whole(request, _MANIFEST_LIMIT))
        if len(ask.items) > MOST_ITEMS or len(ask.uploads) > MOST_ITEMS:
            raise InvalidRequest(f"more than {MOST_ITEMS} items in one ask")
        job, attempt = await self._access.live(instance_id, ask.job, ask.number)
        if ask.area == "checkpoints":
            async with self._manifests.turn(job.id):
                return answer(await self._grant(ask, job, attempt))
        return answer(await self._grant(ask, job, attempt))

    async def manifest(self, request: Request, instance_id: str) -> Response:
        message = decoded(wire.Manifest, await whole(request, _MANIFEST_LIMIT))
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
        message = decoded(wire.Readings, await whole(request, _READINGS_LIMIT))
        if len(message.rows) > _MOST_READINGS:
            raise InvalidRequest(f"more than {_MOST_READINGS} rows")
        if message.job:
            await self._access.owned(instance_id, message.job, message.number)
        now = self._services.clock.now()
        rows = [(now - timedelta(seconds=ago_s), values) for ago_s, values in map(reading, message.rows)]
        await self._services.store.records.add_readings(message.job, message.number, instance_id, rows)
        return Response(b"{}", media_type="application/json")

    async def runner(self, request: Request, instance_id: str) -> Response:
        """Who a `ci-runner` attempt is to be. Its forge makes it now, and makes it anew when it is asked for again."""
        ask = decoded(wire.RunnerAsk, await whole(request, _JOIN_LIMIT))
        job, attempt = await self._access.live(instance_id, ask.job, ask.number)
        made = await self._services.registrar.register(job, attempt)
        return answer(wire.RunnerGiven(made.name, made.secret))

    async def put_object(self, request: Request, instance_id: str) -> Response:
        """`results/JOB/NUMBER/...` or `checkpoints/JOB/SHA256`, of a live attempt."""
        area, _, rest = str(request.path_params["key"]).partition("/")
        job_id, _, below = rest.partition("/")
        if area == "results":
            number, _, below = below.partition("/")
            _, attempt = await self._access.live(instance_id, job_id, attempt_number(number))
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
            job, _ = await self._access.live(instance_id, job_id, attempt_number(number))
            index, _, below = below.partition("/")
            store, source = await input_behind(self._services, job, attempt_number(index), below)
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
        return wire.Grants([grant_of(one) for one in granted], EXPIRES_S)
