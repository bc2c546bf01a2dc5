"""The controller's API over a Unix socket or TCP, with nothing but the standard library: start-up time is a feature."""

from __future__ import annotations

import getpass
import http.client
import json
import os
import socket
import urllib.parse
from collections.abc import Callable
from typing import Any, Protocol

from .failures import UNREACHABLE, CliError, Unreachable, from_answer

API = "/api/v1"
_TIMEOUT_S = 60.0
_BLOCK = 2**18  # bytes of a file that are sent at once; arbitrary


class Readable(Protocol):
    """A body that is sent as it is read."""

    def read(self, size: int = -1, /) -> bytes: ...


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout, blocksize=_BLOCK)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Client:
    """`target`: `unix:PATH`, or an http(s) URL with `token`, or with `renew`, which gives one whenever there is none or
    it is not taken any more. One connection, kept; not for several threads at once."""

    def __init__(self, target: str, token: str = "", ca: str = "", renew: Callable[[], str] | None = None) -> None:
        self.target = target
        self._token = _checked_token(token)
        self._ca = ca
        self._renew = renew
        self._connection: http.client.HTTPConnection | None = None
        self.told: dict[str, Any] = {}  # what an embedded controller said of itself when it was found

    def another(self) -> Client:
        """The same way in, with a connection of its own."""
        return Client(self.target, self._token, self._ca, self._renew)

    def get(self, path: str, **query: object) -> Any:
        return self.ask("GET", _with(path, query))

    def post(self, path: str, body: object = None) -> Any:
        return self.ask("POST", path, body if body is not None else {})

    def ask(self, method: str, path: str, body: object = None, timeout_s: float = _TIMEOUT_S) -> Any:
        """The answer's JSON. Raises: CliError with the controller's own words, Unreachable."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data is not None else {}
        response = self.open(method, path, data, headers, timeout_s=timeout_s)
        try:
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unreachable(f"the controller's answer was lost: {error}") from error
        return _decoded(response.status, answer)

    def open(
        self,
        method: str,
        path: str,
        body: bytes | Readable | None = None,
        headers: dict[str, str] | None = None,
        *,
        timeout_s: float = _TIMEOUT_S,
    ) -> http.client.HTTPResponse:
        """An answer whose body the caller reads. What was closed or has ended meanwhile, a kept connection or a token,
        is made anew once."""
        fresh = self._renew is not None and not self._token
        if self._renew is not None and fresh:
            self._token = _checked_token(self._renew())
        response = self._opened(method, path, body, headers, timeout_s)
        if response.status == 401 and self._renew is not None and not fresh and (body is None or type(body) is bytes):
            response.read()
            self._token = _checked_token(self._renew())
            response = self._opened(method, path, body, headers, timeout_s)
        return response

    def _opened(
        self,
        method: str,
        path: str,
        body: bytes | Readable | None,
        headers: dict[str, str] | None,
        timeout_s: float,
    ) -> http.client.HTTPResponse:
        kept = self._connection is not None
        try:
            return self._send(method, path, body, headers or {}, timeout_s)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            sendable = body is None or isinstance(body, bytes)
            if not (kept and sendable and isinstance(error, ConnectionError)):
                raise self._unreachable(error) from error
        try:
            return self._send(method, path, body, headers or {}, timeout_s)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._unreachable(error) from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _send(
        self, method: str, path: str, body: bytes | Readable | None, headers: dict[str, str], timeout_s: float
    ) -> http.client.HTTPResponse:
        connection = self._connection or self._connect(timeout_s)
        self._connection = connection
        connection.timeout = timeout_s
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        sent = {"X-Runner-User": _user(), **headers}
        if self._token:
            sent["Authorization"] = f"Bearer {self._token}"
        connection.request(method, API + path if not path.startswith("/healthz") else path, body, sent)
        return connection.getresponse()

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        if self.target.startswith("unix:"):
            return _UnixConnection(self.target[5:], timeout_s)
        wrong = CliError(f"RUNNER_SERVER is {self.target!r}", "write http://HOST:PORT or https://HOST:PORT")
        try:
            parts = urllib.parse.urlsplit(self.target)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise wrong from error
        if not host or parts.scheme not in ("http", "https"):
            raise wrong
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, port or 8765, timeout=timeout_s, blocksize=_BLOCK)
        import ssl

        try:
            context = ssl.create_default_context(cafile=self._ca or None)
        except OSError as error:
            raise CliError(f"RUNNER_CA is {self._ca!r}: {error.strerror or error}", "name a PEM file") from error
        return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context, blocksize=_BLOCK)

    def _unreachable(self, error: Exception) -> Unreachable:
        hint = ""
        if isinstance(error, PermissionError):
            hint = "its socket belongs to another user; set RUNNER_HOME to a folder of your own"
        elif "CERTIFICATE_VERIFY_FAILED" in str(error):
            hint = "set RUNNER_CA to the file with the controller's certificate authority"
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Unreachable(f"no controller at {self.target}: {why}", hint)


class Incoming:
    """A body that is read piece by piece. `broken` tells a stream that was cut from one that ended."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response
        self.broken = False

    def take(self, size: int) -> bytes:
        """Exactly `size` bytes, or fewer where the stream ends or breaks."""
        parts = []
        while size and not self.broken:
            try:
                data = self._response.read(size)
            except http.client.IncompleteRead as error:
                data, self.broken = error.partial, True
            except (OSError, http.client.HTTPException):
                data, self.broken = b"", True
            if not data:
                break
            parts.append(data)
            size -= len(data)
        return b"".join(parts)


def refusal(response: http.client.HTTPResponse) -> CliError:
    """What an answer of 400 or more says."""
    try:
        body = json.loads(response.read(2**16))
    except (OSError, ValueError, http.client.HTTPException):
        body = None
    return from_answer(response.status, body)


def _decoded(status: int, answer: bytes) -> Any:
    try:
        body = json.loads(answer) if answer else None
    except ValueError as error:
        if status < 400:
            raise CliError("what answers is no controller of ours", "look at RUNNER_SERVER", UNREACHABLE) from error
        body = None
    if status >= 400:
        raise from_answer(status, body)
    return body


def _with(path: str, query: dict[str, object]) -> str:
    given = {name: str(value) for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urllib.parse.urlencode(given)}" if given else path


def _checked_token(token: str) -> str:
    if not all("!" <= letter <= "~" for letter in token):
        raise CliError("RUNNER_TOKEN is not a token", "`runner token create` on the controller prints one")
    return token


def _user() -> str:
    """The name under which our jobs stand; the controller takes only names that fit in a header."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = ""
    fits = 0 < len(name) <= 64 and all(one.isascii() and (one.isalnum() or one in "_.@+-") for one in name)
    return name if fits else str(os.getuid())
