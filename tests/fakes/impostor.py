"""Somebody else on the controller's port, with a certificate for its name by an authority of their own."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from provisioner.app.tls import leaf


@dataclass
class Heard:
    """How many came, and how many of them said anything."""

    connections: int = 0
    requests: int = 0


class _Kept:
    """What `leaf` keeps its authority in."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    async def meta(self, key: str) -> str | None:
        return self._values.get(key)

    async def set_meta(self, key: str, value: str, *, only_new: bool = False) -> str:
        return self._values.setdefault(key, value)


@contextlib.contextmanager
def impostor(folder: Path, port: int) -> Iterator[Heard]:
    heard = Heard()

    class Handler(BaseHTTPRequestHandler):
        def parse_request(self) -> bool:
            heard.requests += 1
            return super().parse_request()

    class Server(ThreadingHTTPServer):
        allow_reuse_address = True

        def get_request(self):  # type: ignore[no-untyped-def]
            connection, address = super().get_request()
            heard.connections += 1
            return context.wrap_socket(connection, server_side=True), address

    cert, key, _ = asyncio.run(leaf(_Kept(), b"i" * 32, folder, ["localhost", "127.0.0.1"]))  # type: ignore[arg-type]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with Server(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield heard
        finally:
            server.shutdown()
