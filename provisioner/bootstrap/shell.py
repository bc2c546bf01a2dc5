"""The Shell port over asyncssh, which is imported with the first connection.

Nothing of this computer's own SSH set-up is read: no configuration, no agent, no known hosts, no keys. What a login
says is all there is.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from provisioner.domain.errors import BootstrapError, HostKeyMismatch, LoginRefused, NoAnswer
from provisioner.domain.extras import installed_by
from provisioner.domain.shell import Login, Ran, Session

if TYPE_CHECKING:
    import asyncssh

_ALIVE_EVERY_S = 15.0  # H4: asked whether it is there; after three unanswered it is not
_ALIVE_MISSED = 3


class OpenSsh:
    """Connections to OpenSSH servers and whatever else speaks the protocol."""

    @contextlib.asynccontextmanager
    async def connect(self, login: Login, *, timeout_s: float = 20.0) -> AsyncIterator[Session]:
        connection = await _opened(login, timeout_s)
        try:
            yield _Session(login, connection)
        finally:
            connection.abort()
            with contextlib.suppress(Exception):
                await connection.wait_closed()


class _Session:
    def __init__(self, login: Login, connection: asyncssh.SSHClientConnection) -> None:
        self._login = login
        self._connection = connection

    @property
    def host_key(self) -> str:
        key = self._connection.get_server_host_key()
        return " ".join(key.export_public_key("openssh").decode().split()[:2]) if key else ""

    async def run(self, words: Sequence[str], data: bytes = b"", *, timeout_s: float = 60.0) -> Ran:
        import asyncssh

        fed: dict[str, Any] = {"input": data} if data else {"stdin": asyncssh.DEVNULL}
        with _ours(self._login):
            done = await self._connection.run(shlex.join(words), encoding=None, timeout=timeout_s, **fed)
            code = done.returncode if done.returncode is not None and done.returncode >= 0 else -1
            return Ran(code, bytes(done.stdout or b""), bytes(done.stderr or b""))  # type: ignore[arg-type]

    async def join(self, remote: str, local: str) -> None:
        await self.run(["rm", "-f", remote])
        with _ours(self._login):
            await self._connection.forward_remote_path(remote, local)

    async def closed(self) -> None:
        await self._connection.wait_closed()


async def _opened(login: Login, timeout_s: float) -> asyncssh.SSHClientConnection:
    """Raises: BootstrapError."""
    if not login.host_keys:
        raise HostKeyMismatch(f"{login}: no host key is known for it")
    try:
        import asyncssh
    except ImportError as error:
        raise NoAnswer("SSH needs another package", hint=installed_by("ssh")) from error
    with _ours(login):
        known = [asyncssh.import_public_key(one) for one in login.host_keys]
        options: dict[str, Any] = {
            "port": login.port,
            "username": login.user,
            "client_keys": [asyncssh.import_private_key(login.key)] if login.key else [],
            "known_hosts": (known, [], []),
            "server_host_key_algs": _algorithms(known),
            "config": None,
            "agent_path": None,
            "preferred_auth": "publickey",
            "connect_timeout": timeout_s,
            "login_timeout": timeout_s,
            "keepalive_interval": _ALIVE_EVERY_S,
            "keepalive_count_max": _ALIVE_MISSED,
        }
        return await asyncssh.connect(login.host, **options)


def _algorithms(keys: Sequence[Any]) -> list[str]:
    """Only those of keys that we know: a host with several shows the one that can be checked."""
    return list(dict.fromkeys(name.decode() for key in keys for name in key.sig_algorithms))


@contextlib.contextmanager
def _ours(login: Login) -> Any:
    """asyncssh's errors as ours (H2)."""
    import asyncssh

    try:
        yield
    except BootstrapError:
        raise
    except (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed) as error:
        raise HostKeyMismatch(
            f"{login} does not have the host key that is known for it: {error}",
            hint="if the host was set up anew, add it anew; else something else answers there",
        ) from error
    except asyncssh.PermissionDenied as error:
        raise LoginRefused(f"{login} does not let this controller in: {error}") from error
    except TimeoutError as error:
        raise NoAnswer(f"{login} did not answer in time") from error
    except asyncssh.ChannelListenError as error:
        raise NoAnswer(
            f"{login} joins no Unix socket: {error}", hint="AllowStreamLocalForwarding yes, in its sshd_config"
        ) from error
    except (OSError, asyncssh.Error, asyncssh.KeyImportError) as error:
        raise NoAnswer(f"{login}: {error}") from error
