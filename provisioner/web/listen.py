"""Listeners: a site on a Unix socket or a TCP port, started and ended by whoever composes.

Uvicorn's own `serve` takes the process's signals and wakes ten times a second; its start-up alone does neither.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import stat
import time
from pathlib import Path
from typing import Any

import uvicorn

from provisioner.domain.errors import InvalidRequest

from .ending import Ending

_GRACE_S = 10.0  # how long calls in flight may take at the end. Source: product.md, "finishes the calls in flight".
_KEEP_ALIVE_S = 75  # arbitrary: longer than an agent's poll
_LOOK_EVERY_S = 0.01
_BACKLOG = 2048


class Listener:
    """One open socket and the site behind it."""

    def __init__(self, server: uvicorn.Server, sock: socket.socket, ending: Ending, path: Path | None = None) -> None:
        self._server = server
        self._socket = sock
        self._ending = ending
        self._path = path
        self._closed = False

    @classmethod
    async def unix(cls, site: Any, path: Path) -> Listener:
        """Only this user may connect. A socket that nobody answers is replaced. Raises: InvalidRequest."""
        _clear(path)
        sock = socket.socket(socket.AF_UNIX)
        try:
            before = os.umask(0o177)
            try:
                sock.bind(str(path))
            finally:
                os.umask(before)
        except OSError as error:
            sock.close()
            raise InvalidRequest(f"cannot listen on {path}: {error.strerror or error}") from error
        return cls(await _start(site, sock, None), sock, site.state.ending, path)

    @classmethod
    async def tcp(cls, site: Any, host: str, port: int, context: ssl.SSLContext | None = None) -> Listener:
        """Port 0 takes any free one. Raises: InvalidRequest when the address cannot be had."""
        try:
            family, _, _, _, address = (
                await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            )[0]
            sock = socket.socket(family)
        except OSError as error:
            raise InvalidRequest(f"cannot listen on {host}: {error.strerror}") from error
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(address)
        except OSError as error:
            sock.close()
            taken = error.errno == errno.EADDRINUSE
            why = "the port is taken" if taken else error.strerror
            raise InvalidRequest(
                f"cannot listen on {host}:{port}: {why}", hint="choose another --port" if taken else "check --host"
            ) from error
        return cls(await _start(site, sock, context), sock, site.state.ending)

    @property
    def local(self) -> bool:
        """Whether it is a Unix socket."""
        return self._path is not None

    @property
    def port(self) -> int:
        """Of a TCP listener."""
        return int(self._socket.getsockname()[1])

    async def close(self) -> None:
        """Take no more requests, let waiting ones go, finish the others within ten seconds. May be called twice."""
        if self._closed:
            return
        self._closed = True
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self._ending.begin()
        state = self._server.server_state
        for server in self._server.servers:
            server.close()
        self._socket.close()
        for connection in list(state.connections):
            connection.shutdown()
        deadline = time.monotonic() + _GRACE_S
        while (state.connections or state.tasks) and time.monotonic() < deadline:  # noqa: ASYNC110  (uvicorn keeps sets)
            await asyncio.sleep(_LOOK_EVERY_S)
        for task in state.tasks:
            task.cancel("the listener has closed")


def _clear(path: Path) -> None:
    """Raises: InvalidRequest when somebody answers there, or when it is no socket."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise InvalidRequest(f"{path} is there and is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        with contextlib.suppress(ConnectionRefusedError, FileNotFoundError):
            probe.connect(str(path))
            raise InvalidRequest(f"a controller already listens on {path}")
    path.unlink(missing_ok=True)


async def _start(site: Any, sock: socket.socket, context: ssl.SSLContext | None) -> uvicorn.Server:
    config = uvicorn.Config(
        site,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )
    config.load()
    config.ssl = context
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    sock.setblocking(False)
    await server.startup(sockets=[sock])
    return server
