"""The laws of the Shell port, a test each, against whatever server the fixture starts."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from provisioner.bootstrap.shell import OpenSsh
from provisioner.domain.errors import HostKeyMismatch, LoginRefused, NoAnswer
from provisioner.domain.shell import Login
from tests.fakes import sshd
from tests.fakes.booting import until
from tests.fakes.ports import free_port


@dataclass
class Place:
    """A server and how to log in to it; `said` is all that it has been told by those who came."""

    login: Login
    folder: Path


@pytest.fixture
def local(tmp_path: Path) -> Iterator[str]:
    """A Unix socket here that answers every line with itself."""
    path = tmp_path / "here.sock"
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        while True:
            try:
                one, _ = server.accept()
            except OSError:
                return
            one.sendall(b"heard " + one.recv(100))
            one.close()

    threading.Thread(target=serve, daemon=True).start()
    yield str(path)
    server.close()


class ShellLaws:
    async def test_a_command_gets_its_input_and_its_words_whole(self, place: Place) -> None:
        async with OpenSsh().connect(place.login) as session:
            data = bytes(range(256)) * 1000
            assert (await session.run(["cat"], data)).out == data
            done = await session.run(["sh", "-c", 'echo "$1"; echo no >&2; exit 3', "x", "two  words; $HOME"])
            assert (done.code, done.out, done.complaint) == (3, b"two  words; $HOME\n", "no")
            assert session.host_key in place.login.host_keys

    async def test_h1_another_host_key_is_not_spoken_to(self, place: Place, tmp_path: Path) -> None:
        other = sshd.new_key(tmp_path / "other")
        for keys in ((other,), ()):
            with pytest.raises(HostKeyMismatch):
                async with OpenSsh().connect(replace(place.login, host_keys=keys)):
                    raise AssertionError("it was let through")

    async def test_h2_only_our_errors_come_out(self, place: Place, tmp_path: Path) -> None:
        sshd.new_key(tmp_path / "stranger")
        with pytest.raises(LoginRefused):
            async with OpenSsh().connect(replace(place.login, key=(tmp_path / "stranger").read_text())):
                raise AssertionError("a stranger was let in")
        with pytest.raises(NoAnswer):
            async with OpenSsh().connect(replace(place.login, port=free_port())):
                raise AssertionError("nobody answers there")
        async with OpenSsh().connect(place.login) as session:
            with pytest.raises(NoAnswer):
                await session.run(["sleep", "60"], timeout_s=0.2)

    async def test_h3_what_was_joined_ends_with_the_session(self, place: Place, local: str) -> None:
        remote = str(place.folder / "there.sock")
        await asyncio.to_thread(Path(remote).touch)
        async with OpenSsh().connect(place.login) as session:
            await session.join(remote, local)
            reader, writer = await asyncio.open_unix_connection(remote)
            writer.write(b"me")
            assert await reader.read(100) == b"heard me"
            writer.close()
        await asyncio.to_thread(until, lambda: not _answers(remote), "the socket there to be dead", 10)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0
