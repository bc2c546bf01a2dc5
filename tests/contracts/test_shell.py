"""Our SSH against two servers that others wrote: OpenSSH, and paramiko's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.bootstrap.shell import OpenSsh
from provisioner.domain.errors import NoAnswer
from provisioner.domain.shell import Login
from tests.fakes import paramiko_server, sshd

from .shell_laws import Place, ShellLaws, local

__all__ = ["local"]


@pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing() or "it is there")
class TestOpenSsh(ShellLaws):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[Place]:
        with sshd.serving(tmp_path / "sshd") as one:
            yield Place(Login("127.0.0.1", one.port, one.user, (one.host_key,), one.key), tmp_path)


class TestParamiko(ShellLaws):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[Place]:
        with paramiko_server.serving(tmp_path / "paramiko") as one:
            yield Place(Login("127.0.0.1", one.port, "runner", (one.host_key,), one.key), tmp_path)

    async def test_h3_what_was_joined_ends_with_the_session(self, place: Place, local: str) -> None:
        """A server that joins nothing says so, and so do we."""
        async with OpenSsh().connect(place.login) as session:
            with pytest.raises(NoAnswer):
                await session.join(str(place.folder / "there.sock"), local)
