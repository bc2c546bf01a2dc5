"""A forge's HTTP, for fakes: real requests on loopback, and what a network and a busy forge do wrong.

A fake brings routes (method, pattern of the path, handler); a handler is given an `Asked`, and returns an `Answer` or
its body, or raises a `Refusal`. Requests are handled one at a time, so that the state behind them needs no lock.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from provisioner.domain.ports import Clock

from .hand_clock import HandClock


@dataclass
class Asked:
    """`path` begins after the API's own prefix; `words` are what the route's pattern found in it."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any
    words: tuple[str, ...] = ()

    def one(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[-1]

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class Answer:
    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass
class Fault:
    """What becomes of the next `times` requests whose name fits `pattern`, after the first `skip`. `how`: before (502,
    nothing done), after (502, done), cut (done, and the line broke), silent (done, never answered), denied (401)."""

    pattern: str
    how: str
    skip: int = 0
    times: int = 1


Route = tuple[str, str, Callable[[Asked], Any]]


class ForgeHttp:
    """The server below a fake forge. `root`: where the forge lives on its host ("/gitlab"); `api`: where its API does;
    `late_s`: how long what was made takes to show in listings; `shut_until_s`: everything is 429 until then; `files`:
    what is there for everybody, by path. `ignored` counts requests of those who had been told to wait, and did not."""

    api = "/api"
    total_header = "X-Total-Count"

    def __init__(self, clock: Clock | None = None, root: str = "") -> None:
        self.clock: Clock = clock or HandClock()
        self.root = root.rstrip("/")
        self.late_s = 0.0
        self.shut_until_s = 0.0
        self.ignored = 0
        self.files: dict[str, Answer] = {}
        self.faults: list[Fault] = []
        self.asked: list[Asked] = []
        self.before: Callable[[Asked], None] = lambda asked: None
        self.ended = threading.Event()
        self._told_to_wait: set[tuple[str, float]] = set()
        self.lock = threading.RLock()
        self._server = _Server(("127.0.0.1", 0), type("Bound", (_Handler,), {"forge": self}))
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}{self.root}"

    def __enter__(self) -> ForgeHttp:
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()

    def routes(self) -> Sequence[Route]:
        raise NotImplementedError

    def let_in(self, asked: Asked) -> None:
        """Raises: Refusal."""

    def failure(self, status: int, message: str) -> Any:
        """The body that this forge sends with an error."""
        return {"message": message}

    def weigh(self, asked: Asked) -> Answer | None:
        """The answer to one who asks for more than the forge's limits allow. None: it is let in, and counted."""
        return None

    def limit_headers(self, asked: Asked) -> dict[str, str]:
        return {}

    def sent(self, pattern: str) -> list[Asked]:
        """What was asked so far whose name fits: "POST /user/runners"."""
        with self.lock:
            return [asked for asked in self.asked if re.fullmatch(pattern, asked.name)]

    def visible(self, made_at_s: float) -> bool:
        return self.clock.monotonic() - made_at_s >= self.late_s

    def answer(self, asked: Asked) -> tuple[Answer, str]:
        """What to send, and what becomes of it on the way: "", "cut" or "silent"."""
        self.before(asked)
        with self.lock:
            self.asked.append(asked)
            how = self._fault(asked.name)
            if how == "before":
                return _gateway(), ""
            if how == "denied":
                return Answer(self.failure(401, "unauthorized"), 401), ""
            done = self._throttled(asked) or self.weigh(asked) or self._do(asked)
            done.headers = {**self.limit_headers(asked), **done.headers}
            return (_gateway(), "") if how == "after" else (done, how)

    def _fault(self, name: str) -> str:
        for one in self.faults:
            if one.times > 0 and re.fullmatch(one.pattern, name):
                if one.skip > 0:
                    one.skip -= 1
                    continue
                one.times -= 1
                return one.how
        return ""

    def _throttled(self, asked: Asked) -> Answer | None:
        left_s = self.shut_until_s - self.clock.monotonic()
        if left_s <= 0:
            return None
        told = (who(asked), self.shut_until_s)
        self.ignored += told in self._told_to_wait
        self._told_to_wait.add(told)
        return Answer(self.failure(429, "Retry later"), 429, {"Retry-After": str(int(left_s + 0.999))})

    def _do(self, asked: Asked) -> Answer:
        if asked.path in self.files:
            return self.files[asked.path]
        try:
            self.let_in(asked)
            for method, pattern, act in self.routes():
                if method == asked.method and (match := re.fullmatch(pattern, asked.path)):
                    asked.words = tuple(unquote(word) for word in match.groups())
                    done = act(asked)
                    return done if isinstance(done, Answer) else Answer(done)
            raise Refusal(404, "404 Not Found")
        except Refusal as refused:
            return Answer(self.failure(refused.status, refused.message), refused.status)

    def page(self, asked: Asked, items: Sequence[Any], size: str, most: int) -> Answer:
        """One page of a listing, with its Link header. `size`: the parameter that says how long a page is."""
        number, per_page = int(asked.one("page", "1")), min(int(asked.one(size, "20")), most)
        here = list(items[(number - 1) * per_page : number * per_page])
        headers = {self.total_header: str(len(items))}
        if number * per_page < len(items):
            more = {name: values for name, values in asked.query.items() if name != "page"}
            query = urlencode({**more, "page": [str(number + 1)]}, doseq=True)
            headers["Link"] = f'<{self.url}{self.api}{asked.path}?{query}>; rel="next"'
        return Answer(here, headers=headers)


def who(asked: Asked) -> str:
    """Whose credential it was asked with."""
    return asked.headers.get("private-token") or asked.headers.get("authorization", "")


def _gateway() -> Answer:
    return Answer(b"<html>502 Bad Gateway</html>", 502, {"Content-Type": "text/html"})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is part of the play."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    forge: ForgeHttp

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The forge's own clock."""
        return formatdate(self.forge.clock.now().timestamp(), usegmt=True)

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = parts.path.removeprefix(self.forge.root)
        asked = Asked(
            self.command,
            path.removeprefix(self.forge.api),
            parse_qs(parts.query, keep_blank_values=True),
            {name.lower(): value for name, value in self.headers.items()},
            json.loads(data) if data else {},
        )
        done, how = self.forge.answer(asked)
        if how:
            if how == "silent":
                self.forge.ended.wait()
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self._send(done)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    def _send(self, done: Answer) -> None:
        whole = done.body if isinstance(done.body, bytes) else json.dumps(done.body).encode() if done.body else b""
        whole = b"[]" if done.body == [] else whole
        self.send_response(done.status)
        for name, value in {"Content-Type": "application/json", **done.headers}.items():
            self.send_header(name, value)
        if done.status != 204:
            self.send_header("Content-Length", str(len(whole)))
        self.end_headers()
        self.wfile.write(whole)
        self.wfile.flush()
