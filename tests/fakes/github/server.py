"""The fake GitHub's front: HTTP, who asks, the limits, and the troubles that a test ordered. `routes` answers.

It is an Enterprise Server, whose API is at /api/v3 of its own address. What passed is kept in `exchanges`, so that
every request and answer can be held against GitHub's published description.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from provisioner.domain.forge import ForgeKind, Site
from tests.fakes.hooks import Hooks
from tests.fakes.trouble import Trouble, due

from . import runner_api, shapes, webhooks
from .apps import Accounts, Who
from .limits import REGISTRATION, Limits
from .reply import Reply
from .reviews import Reviews
from .routes import Route, find
from .scale_sets import ScaleSets
from .state import Job, Run, State, Time

API = "/api/v3"


@dataclass
class Exchange:
    """A request and its answer, as they passed."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    status: int = 0
    answer: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    who: Who | None = None


@dataclass
class Archive:
    """A program for `system` and `machine` at `version`."""

    content: bytes
    version: str
    system: str
    machine: str

    @property
    def file(self) -> str:
        return f"actions-runner-{self.system}-{self.machine}-{self.version}.tar.gz"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


class FakeGitHub:
    """`troubles`: the `code` of one is 502, cut, silent or 401, its `action` the name of a route; `lose` is done first.

    `taken_in_between`: names of runners that are given a waiting job just as they are to be deleted. `offline_after_s`,
    `lost_after_s`: see `runner_api`."""

    def __init__(self, clock: Time, *, offline_after_s: float = 10.0, lost_after_s: float = 60.0) -> None:
        self.clock = clock
        self.offline_after_s, self.lost_after_s = offline_after_s, lost_after_s
        self.state = State(clock, self._tell)
        self.accounts = Accounts(clock)
        self.limits = Limits(clock)
        self.hooks = Hooks(self.state.next_id, self.state.now, webhooks.headers, webhooks.EVENTS)
        self.reviews = Reviews(self.state)
        self.scale_sets = ScaleSets(self)
        self.groups: dict[str, dict[str, int]] = {}
        self.archives: list[Archive] = []
        self.mirrored: list[Archive] = []
        self.deprecations: dict[str, dict[str, str | None]] = {}
        self.refused_versions: set[str] = set()
        self.troubles: list[Trouble] = []
        self.taken_in_between: set[str] = set()
        self.denied: set[str] = set()
        self.exchanges: list[Exchange] = []
        self.moved: dict[str, str] = {}
        self.at_once = 0
        self.most_found = 1000  # Source: GitHub REST, "List workflow runs": so many of a search can be reached
        self.stopping = threading.Event()
        self._servers: list[_Server] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        port: int = self._servers[0].server_address[1]
        return port

    def start(self) -> None:
        self._serve(_Server(("127.0.0.1", 0), self._handler))

    def start_at(self, listening: socket.socket) -> None:
        """There, too."""
        server = _Server(("127.0.0.1", self.port), self._handler, bind_and_activate=False)
        server.socket.close()
        server.socket = listening
        self._serve(server)

    def _serve(self, server: _Server) -> None:
        self._servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def _handler(self) -> type[_Handler]:
        return type("Handler", (_Handler,), {"forge": self})

    def stop(self) -> None:
        self.stopping.set()
        with self.state.changed:
            self.state.changed.notify_all()
        self.hooks.stop()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def site(self, path: str) -> Site:
        return Site(ForgeKind("github"), self.url, path)

    def add_repository(self, full_name: str) -> Site:
        self.state.repositories[full_name] = self.state.next_id()
        return self.site(full_name)

    def publish(self, archive: bytes, version: str, system: str = "linux", machine: str = "x64") -> Archive:
        """A runner program that `actions/runners/downloads` lists."""
        made = Archive(archive, version, system, machine)
        self.archives = [one for one in self.archives if (one.system, one.machine) != (system, machine)] + [made]
        return made

    def asked(self) -> int:
        return len(self.exchanges)

    def _tell(self, event: str, action: str, run: Run, job: Job | None) -> None:
        def payload() -> Any:
            schema = f"webhook-{event}-{action}".replace("_", "-")
            repository = {"full_name": run.repository, "html_url": f"{self.url}/{run.repository}"}
            shape = {"action": action, "repository": repository, "installation": {"id": 501}}
            if job is not None:
                shape["workflow_job"] = shapes.job(job, run, self.url)
            else:
                shape["workflow_run"] = shapes.run(run, self.url)
            return shapes.complete(shapes.named(schema), shape)

        self.scale_sets.tell(event, action, run, job)
        self.hooks.tell(event, action, run.repository, payload)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def server_bind(self) -> None:
        """Without asking what this computer is called, which can take long."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is part of the play."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    forge: FakeGitHub

    def log_message(self, *_: object) -> None:
        """Tests print enough."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(self.forge.clock.now().timestamp() if timestamp is None else timestamp)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("content-length") or 0)
        raw = self.rfile.read(length) if length else b""
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        if parts.path.startswith("/_downloads/"):
            self._send(self._file(parts.path.rpartition("/")[2]))
        elif parts.path.startswith("/_runner/"):
            body = json.loads(raw) if raw else None
            token = self.headers.get("authorization", "").removeprefix("Bearer ")
            path = parts.path.removeprefix("/_runner")
            self._send(runner_api.answer(self.forge, self.command, path, query, token, body))
        elif parts.path == f"{API}/actions/runner-registration" or parts.path.startswith("/_actions/"):
            self._actions(parts.path.removeprefix(f"{API}/actions").removeprefix("/_actions"), query, raw)
        elif parts.path.startswith(API):
            self._rest(Exchange(self.command, parts.path, query, json.loads(raw) if raw else None))
        else:
            self._send(Reply(404))

    do_POST = do_PATCH = do_DELETE = do_PUT = do_GET

    def _actions(self, path: str, query: dict[str, str], raw: bytes) -> None:
        """What GitHub has no published description of."""
        if "x-scalesetmaxcapacity" in self.headers:
            self.forge.scale_sets.rooms.append(int(self.headers["x-scalesetmaxcapacity"]))
        body, who = json.loads(raw) if raw else None, self.headers.get("authorization", "")
        reply = self.forge.scale_sets.answer(self.command, path, query, who, body)
        if reply is None:
            self.close_connection = True
        else:
            self._send(reply)

    def _file(self, name: str) -> Reply:
        """A program; or, as a mirror may have it, its sha256."""
        for one in self.forge.archives + self.forge.mirrored:
            if name == one.file:
                return Reply(200, one.content)
            if name == f"{one.file}.sha256" and one in self.forge.mirrored:
                return Reply(200, f"{one.sha256}  {one.file}\n".encode())
        return Reply(404)

    def _rest(self, exchange: Exchange) -> None:
        self.forge.exchanges.append(exchange)
        with self._counted():
            reply = self._answer(exchange)
        if reply is None:
            self.close_connection = True
            return
        exchange.status, exchange.answer, exchange.headers = reply.status, reply.body, reply.headers
        self._send(reply)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        with self.forge.state.lock:
            self.forge.at_once += 1
        try:
            yield
        finally:
            with self.forge.state.lock:
                self.forge.at_once -= 1

    def _answer(self, exchange: Exchange) -> Reply | None:
        """None: nothing comes."""
        forge = self.forge
        who = exchange.who = forge.accounts.who(self.headers.get("authorization", ""))
        route, groups = find(exchange.method, exchange.path.removeprefix(API))
        if "user-agent" not in self.headers:
            return Reply(403, {"message": "Request forbidden by administrative rules."})
        if who is None:
            return Reply(401, {"message": "Bad credentials"})
        if route is None:
            return Reply(404, {"message": "Not Found"})
        resource = REGISTRATION if route.name in ("register", "registration") else "core"
        points = 1 if exchange.method == "GET" else 5
        refusal = forge.limits.weigh(who.key, route.pattern, points, resource, forge.at_once, route.name == "add")
        if refusal is not None:
            return Reply(refusal.status, {"message": refusal.message}, refusal.headers)
        reply = self._done(route, who, exchange, groups)
        if reply is not None:
            self._unchanged(reply, who, resource)
            reply.headers |= forge.limits.headers(who.key, resource)
        return reply

    def _done(self, route: Route, who: Who, exchange: Exchange, groups: tuple[str, ...]) -> Reply | None:
        """Done, but for what the trouble is that it is in."""
        forge = self.forge
        with forge.state.lock:
            trouble = due(forge.troubles, route.name)
        if trouble is not None and not trouble.lose:
            told = {"401": "Bad credentials", "403": "Resource not accessible by integration"}
            return Reply(int(trouble.code), {"message": told.get(trouble.code, "Server Error")})
        if route.name in forge.denied:
            return Reply(403, {"message": "Resource not accessible by integration"})
        reply = route.answer(forge, who, exchange, *groups)
        if trouble is None:
            return reply
        if trouble.code == "silent":
            forge.stopping.wait(5.0)
        return Reply(502, {"message": "Server Error"}) if trouble.code == "502" else None

    def _unchanged(self, reply: Reply, who: Who, resource: str) -> None:
        if self.command != "GET" or reply.status != 200:
            return
        reply.headers["etag"] = tag = f'W/"{hashlib.sha256(json.dumps(reply.body).encode()).hexdigest()}"'
        if self.headers.get("if-none-match") == tag:
            reply.status, reply.body = 304, None
            self.forge.limits.unspend(who.key, resource)

    def _send(self, reply: Reply) -> None:
        content = b""
        if reply.body is not None:
            content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        if reply.status not in (204, 304):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if reply.status not in (204, 304):
            self.wfile.write(content)
        self.wfile.flush()


def trouble(name: str, how: str, skip: int = 0, times: int = 1) -> Trouble:
    """`how`: before (502), after (502, done), cut (done), silent (done), or the status of a refusal."""
    done = how in ("after", "cut", "silent")
    code = {"before": "502", "after": "502"}.get(how, how)
    return Trouble(name, code=code, lose=done, skip=skip, times=times)
