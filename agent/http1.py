"""HTTP/1.1 as the agent needs it: kept-alive connections over Unix sockets, TCP and TLS, bodies sent from files.

Why not http.client: it imports email and ssl (6 MiB of the agent's 25 and a third of its start), and it cannot have
several requests under way on one connection, which the log's throughput is made of. ssl is imported for https only.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Callable, Optional, Union
from urllib.parse import urlsplit

# Bytes, or a function that gives them in pieces, anew each time that the request is sent.
Body = Union[bytes, Callable[[], Iterator[bytes]]]
_LONGEST_LINE = 65536
_BLOCK = 256 * 1024


class ProtocolError(OSError):
    """The peer closed too early or said something that is not HTTP."""


@dataclass(frozen=True)
class Address:
    """Where to connect. `path` is that of a Unix socket; `prefix` goes before every target."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""
    prefix: str = ""

    @property
    def authority(self) -> str:
        if self.path:
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


def address(url: str) -> Address:
    """`unix:/path`, `http://host[:port][/prefix]` or https. Raises: ValueError."""
    if url.startswith("unix:"):
        return Address("unix", path=url[len("unix:") :])
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"not a URL that can be reached: {url.partition('?')[0]!r}")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Address(parts.scheme, parts.hostname, port, prefix=parts.path.rstrip("/"))


def split(url: str) -> tuple[Address, str]:
    """A whole URL as the place to connect to and what to ask there."""
    parts = urlsplit(url)
    place = address(f"{parts.scheme}://{parts.netloc}")
    return place, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


@dataclass(frozen=True)
class Head:
    """An answer's first lines. Header names are in lower case."""

    status: int
    headers: dict[str, str]


class Connection:
    """One connection. Requests are answered in order; every answer's body must be read before the next head."""

    def __init__(self, place: Address, timeout_s: float, context: Any = None) -> None:
        """Raises: OSError."""
        self.place = place
        self.used = False
        self.answered = False
        self.reusable = True
        self.finished = True
        self._sock = _connected(place, timeout_s, context)
        self._file: Any = self._sock.makefile("rb", _BLOCK)
        self._length: Optional[int] = 0
        self._chunked = False

    def timeout(self, seconds: float) -> None:
        self._sock.settimeout(seconds)

    def send(self, method: str, target: str, headers: dict[str, str], body: Body = b"", size: int = -1) -> None:
        """`size` is that of a body given in pieces. Raises: OSError."""
        length = len(body) if isinstance(body, bytes) else size
        lines = [f"{method} {self.place.prefix}{target} HTTP/1.1", f"host: {self.place.authority}"]
        skip = ("host", "content-length")
        lines += [f"{name}: {value}" for name, value in headers.items() if name.lower() not in skip]
        if length or method not in ("GET", "HEAD"):
            lines.append(f"content-length: {length}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        self.used = self.answered
        if isinstance(body, bytes) and length < _BLOCK:
            self._sock.sendall(head + body)
            return
        self._sock.sendall(head)
        for piece in [body] if isinstance(body, bytes) else body():
            self._sock.sendall(piece)

    def head(self, method: str = "POST") -> Head:
        """The next answer's. Raises: OSError; `used` tells whether the connection had served an earlier request."""
        status = 100
        while status == 100:
            version, status = self._status()
            headers = self._headers()
        self.answered = True
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        length = headers.get("content-length")
        self._length = None if self._chunked or length is None else int(length)
        if method == "HEAD" or status in (204, 304):
            self._chunked, self._length = False, 0
        closing = headers.get("connection", "").lower() == "close" or version != "HTTP/1.1"
        if closing or (self._length is None and not self._chunked):
            self.reusable = False
        self.finished = not self._chunked and self._length == 0
        return Head(status, headers)

    def blocks(self) -> Iterator[bytes]:
        """The answer's body. Raises: ProtocolError when it is shorter than announced."""
        if self._chunked:
            yield from self._chunks()
        elif self._length is None:
            yield from iter(lambda: self._file.read1(_BLOCK), b"")
        else:
            yield from self._exactly(self._length)
        self.finished = True

    def body(self) -> bytes:
        return b"".join(self.blocks())

    def interrupt(self) -> None:
        """From another thread: whoever waits on this connection gets a ProtocolError or OSError."""
        self.reusable = False
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        self.reusable = False
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._sock.close()

    def _line(self) -> bytes:
        line: bytes = self._file.readline(_LONGEST_LINE)
        if not line.endswith(b"\n"):
            self.reusable = False
            raise ProtocolError("the connection was closed before the answer")
        return line.rstrip(b"\r\n")

    def _status(self) -> tuple[str, int]:
        words = self._line().decode("latin-1").split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            raise ProtocolError("the answer is not HTTP")
        return words[0], int(words[1])

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        while line := self._line():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return headers

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size:
            block = self._file.read1(min(size, _BLOCK))
            if not block:
                self.reusable = False
                raise ProtocolError("the answer is shorter than announced")
            size -= len(block)
            yield block

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._line().partition(b";")[0], 16):
            yield from self._exactly(size)
            self._line()
        while self._line():
            pass


def _connected(place: Address, timeout_s: float, context: Any) -> socket.socket:
    if place.path:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(timeout_s)
            sock.connect(place.path)
        except OSError:
            sock.close()
            raise
        return sock
    sock = socket.create_connection((place.host, place.port), timeout_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if place.scheme != "https":
        return sock
    try:
        wrapped: socket.socket = context.wrap_socket(sock, server_hostname=place.host)
    except BaseException:
        sock.close()
        raise
    return wrapped


def reason(body: bytes) -> str:
    """What an error answer says, in one short line."""
    try:
        error = json.loads(body)["error"]
        return str(error["message"] if isinstance(error, dict) else error)[:500]
    except (ValueError, KeyError, TypeError):
        return " ".join(body[:500].decode("utf-8", "replace").split())
