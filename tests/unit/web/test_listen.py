"""Listeners: who may connect, what is in the way, and TLS."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
import stat
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from provisioner.app.tls import leaf
from provisioner.domain.errors import InvalidRequest
from provisioner.store.open import open_store
from provisioner.web.ending import Ending
from provisioner.web.listen import Listener


def site() -> Starlette:
    async def hello(request: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    made = Starlette(routes=[Route("/", hello)])
    made.state.ending = Ending()
    return made


async def test_only_its_user_may_open_a_socket_and_it_goes_with_the_listener(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    listener = await Listener.unix(site(), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await listener.close()
    await listener.close()
    assert not path.exists()


async def test_a_dead_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    listener = await Listener.unix(site(), path)
    with pytest.raises(InvalidRequest, match="already listens"):
        await Listener.unix(site(), path)
    await listener.close()


async def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s.sock").write_text("mine")
    with pytest.raises(InvalidRequest, match="not a socket"):
        await Listener.unix(site(), tmp_path / "s.sock")
    assert (tmp_path / "s.sock").read_text() == "mine"


async def test_a_taken_port_is_one_clear_line() -> None:
    listener = await Listener.tcp(site(), "127.0.0.1", 0)
    with pytest.raises(InvalidRequest, match=f"127.0.0.1:{listener.port}: the port is taken"):
        await Listener.tcp(site(), "127.0.0.1", listener.port)
    await listener.close()


async def test_a_port_is_free_again_after_the_close() -> None:
    listener = await Listener.tcp(site(), "127.0.0.1", 0)
    port = listener.port
    await listener.close()
    await (await Listener.tcp(site(), "127.0.0.1", port)).close()


async def test_tls(tmp_path: Path) -> None:
    store = await open_store(f"sqlite:///{tmp_path / 'runner.db'}", secret_key=b"s" * 32, home=tmp_path)
    cert, key, ca = await leaf(store.records, b"s" * 32, tmp_path / "tls", ["localhost", "127.0.0.1"])
    await store.close()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    listener = await Listener.tcp(site(), "127.0.0.1", 0, context)

    def ask(trusted: ssl.SSLContext) -> bytes:
        connection = http.client.HTTPSConnection("127.0.0.1", listener.port, context=trusted, timeout=5)
        connection.request("GET", "/")
        return connection.getresponse().read()

    assert await asyncio.to_thread(ask, ssl.create_default_context(cafile=str(ca))) == b"hello"
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.to_thread(ask, ssl.create_default_context())
    await listener.close()
