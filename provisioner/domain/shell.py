"""A computer reached over SSH, as a port: what `bootstrap` implements, and `hosts` and the tunnels to machines use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Login:
    """Where, as whom, and by what it is known. `host_keys` are public keys as OpenSSH writes them (`ssh-ed25519 AAAA`);
    `key` is our private key as PEM."""

    host: str
    port: int = 22
    user: str = "root"
    host_keys: tuple[str, ...] = ()
    key: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.user}@{self.host}" + (f":{self.port}" if self.port != 22 else "")


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command there came to. `code` -1: it was ended by a signal."""

    code: int
    out: bytes
    err: bytes

    @property
    def complaint(self) -> str:
        """Its last line of complaint, or its exit code."""
        lines = [line for line in self.err.decode("utf-8", "replace").splitlines() if line.strip()]
        return lines[-1].strip()[:300] if lines else f"exit code {self.code}"


class Session(Protocol):
    """One connection, until its context ends or the other side does."""

    @property
    def host_key(self) -> str:
        """The public key that the host has proved to have, as OpenSSH writes it, without a comment."""
        ...

    async def run(self, words: Sequence[str], data: bytes = b"", *, timeout_s: float = 60.0) -> Ran:
        """Run a command there with `data` as its standard input. Raises: NoAnswer."""
        ...

    async def join(self, remote: str, local: str) -> None:
        """A new Unix socket at path `remote` there leads to the one at `local` here while the session lives; what lay
        at `remote` is replaced. Raises: NoAnswer."""
        ...

    async def closed(self) -> None:
        """Returns when the connection has ended, whoever ended it."""
        ...


@dataclass(frozen=True, slots=True)
class Way:
    """How this controller goes to one machine: over a session at `login`, `socket` there is to lead to its agents'
    socket, and `greet` is done over each new one after that."""

    login: Login
    socket: str
    greet: Callable[[Session], Awaitable[None]]


class Shell(Protocol):
    """SSH.

    - H1 a host is spoken to only once it has proved one of `login.host_keys`: else HostKeyMismatch, and nothing of
      ours, not even the user's name, has been told to it.
    - H2 only BootstrapErrors come out: HostKeyMismatch, LoginRefused, NoAnswer.
    - H3 leaving the context ends the connection, and what was joined over it.
    - H4 a host that has gone silent ends the session within a minute.
    """

    def connect(self, login: Login, *, timeout_s: float = 20.0) -> AbstractAsyncContextManager[Session]: ...
