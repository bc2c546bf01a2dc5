"""An HTTP proxy that tampers with the order of things: messages twice, messages again much later, answers lost.

Everything that came is kept in `sent`, so that it can be said again when its attempt is long over.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_OWN = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@dataclass(frozen=True)
class Message:
    """One request of an agent, as it came."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True)
class Answer:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Meddler(ThreadingHTTPServer):
    """`twice`, `lost` and `late` are chances; a late message is said again after up to `late_s` seconds."""

    daemon_threads = True

    def __init__(self, target_port: int, seed: int, *, late_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.port: int = self.server_address[1]
        self.target_port = target_port
        self.twice = self.lost = self.late = 0.15
        self.late_s = late_s
        self.lose_next = ""
        self.sent: list[Message] = []
        self.done = {"twice": 0, "lost": 0, "late": 0}
        self._chance, self._lock = random.Random(seed), threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that its other side broke off."""

    def take(self, message: Message) -> Answer | None:
        """What the agent hears; nothing, when the answer is lost."""
        with self._lock:
            self.sent.append(message)
            twice, lost, late = (self._chance.random() < one for one in (self.twice, self.lost, self.late))
            wait_s = self._chance.uniform(0.0, self.late_s)
            if self.lose_next and self.lose_next in message.path:
                self.lose_next, lost = "", True
            for what, is_so in (("twice", twice), ("lost", lost), ("late", late)):
                self.done[what] += is_so
        if late:
            timer = threading.Timer(wait_s, self.say, (message,))
            timer.daemon = True
            timer.start()
        answer = self.say(message)
        if twice:
            answer = self.say(message)
        return None if lost else answer

    def say(self, message: Message) -> Answer:
        """To the controller; 502 when it does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.target_port, timeout=30)
        try:
            connection.request(message.method, message.path, message.body, dict(message.headers))
            answer = connection.getresponse()
            return Answer(answer.status, tuple(answer.getheaders()), answer.read())
        except (OSError, http.client.HTTPException):
            return Answer(502, (), b"")
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Meddler

    def _any(self) -> None:
        headers = tuple((name, value) for name, value in self.headers.items() if name.lower() not in _OWN)
        answer = self.server.take(Message(self.command, self.path, headers, self._body()))
        if answer is None:
            self.close_connection = True
            return
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            if name.lower() not in _OWN:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_POST = do_PUT = _any

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        parts = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def meddling(target_port: int, seed: int, *, late_s: float) -> Iterator[Meddler]:
    with Meddler(target_port, seed, late_s=late_s) as made:
        threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield made
        finally:
            made.shutdown()
