"""One host, over one SSH connection that is kept while it works: asks `there` and hands back what it answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from provisioner.domain.errors import BootstrapError, NoAnswer, Unreachable
from provisioner.domain.hosts import Host
from provisioner.domain.shell import Ran, Session, Shell
from provisioner.providers.local import folder, processes

from . import there

# The three modules as they are here, under their own names, and then the one call.
_LOADER = """
import json, sys, types
told = json.loads(sys.argv[1])
for name in ("provisioner", "provisioner.providers", "provisioner.providers.local", "provisioner.providers.hosts"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []
for name, text in told:
    module = sys.modules[name] = types.ModuleType(name)
    module.__package__ = name.rpartition(".")[0]
    setattr(sys.modules[module.__package__], name.rpartition(".")[2], module)
    exec(compile(text, name, "exec"), module.__dict__)
sys.exit(module.main(*sys.argv[2:]))
"""


@cache
def _program() -> str:
    modules = (processes, folder, there)
    return json.dumps([(one.__name__, Path(str(one.__file__)).read_text()) for one in modules])


class Visit:
    """`ask` connects when there is no connection, and forgets one that broke. One question at a time. `place` is where
    machines are kept there, once it is known."""

    def __init__(self, shell: Shell, host: Host, key: str) -> None:
        self._shell = shell
        self.host = host
        self.login = host.login(key)
        self.place = ""
        self._opened: contextlib.AbstractAsyncContextManager[Session] | None = None
        self._session: Session | None = None
        self._turn = asyncio.Lock()

    async def ask(self, verb: str, told: Mapping[str, Any] | bytes = b"", *, timeout_s: float = 60.0) -> dict[str, Any]:
        """Raises: Unreachable, with what the host said."""
        data = told if isinstance(told, bytes) else json.dumps(told).encode()
        words = ["python3", "-I", "-c", _LOADER, _program(), verb, self.host.folder]
        async with self._turn:
            try:
                done = await self._run(words, data, timeout_s)
            except BootstrapError as error:
                raise Unreachable(f"host {self.host.name}: {error.message}", hint=error.hint) from error
        if done.code:
            raise Unreachable(f"host {self.host.name}: {done.complaint}")
        try:
            answer: dict[str, Any] = json.loads(done.out)
        except ValueError as error:
            raise Unreachable(f"host {self.host.name} answered what nobody understands: {done.out[:200]!r}") from error
        return answer

    async def close(self) -> None:
        async with self._turn:
            await self._forget()

    async def _run(self, words: list[str], data: bytes, timeout_s: float) -> Ran:
        """What is asked may be asked again: a connection that was kept may have broken long ago."""
        kept = self._session is not None
        try:
            return await (await self._connected()).run(words, data, timeout_s=timeout_s)
        except BootstrapError:
            await self._forget()
            if not kept:
                raise
        return await (await self._connected()).run(words, data, timeout_s=timeout_s)

    async def _connected(self) -> Session:
        if self._session is None:
            opened = self._shell.connect(self.login)
            self._session = await opened.__aenter__()
            self._opened = opened
        return self._session

    async def _forget(self) -> None:
        opened, self._opened, self._session = self._opened, None, None
        nothing: tuple[type[BaseException] | None, BaseException | None, TracebackType | None] = (None, None, None)
        if opened is not None:
            with contextlib.suppress(NoAnswer, OSError):
                await opened.__aexit__(*nothing)
