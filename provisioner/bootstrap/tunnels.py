"""A way home for machines that cannot reach this controller: an SSH connection to each, held for as long as it lives.

Over it a Unix socket in the machine's own folder leads to the agents' socket here. What ought to be held comes from
`wanted` at every turn; a connection that breaks is made again after a pause, a few at a time, for ever.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog

from provisioner.domain.errors import BootstrapError, HostKeyMismatch
from provisioner.domain.shell import Shell, Way

_log = structlog.get_logger()
AT_ONCE = 50  # connections being made; arbitrary: a restart with a thousand machines is no burst
_TURN_S = 1.0
_FIRST_S, _LONGEST_S = 0.5, 30.0


@dataclass
class _Held:
    task: asyncio.Task[None]
    way: Way
    up: bool = False

    def elsewhere(self, now: Way) -> bool:
        """Whether the machine is not where it is being looked for."""
        return not self.up and (now.login.host, now.login.port) != (self.way.login.host, self.way.login.port)


class Tunnels:
    """`local` is the socket that all of them lead to. `told(key, error)` hears when one is up (None), and of each new
    reason why one is not. `pauses_s`: the first before trying again, and the longest."""

    def __init__(
        self,
        shell: Shell,
        local: str,
        wanted: Callable[[], Awaitable[Mapping[str, Way]]],
        told: Callable[[str, BootstrapError | None], Awaitable[None]],
        *,
        rng: random.Random | None = None,
        turn_s: float = _TURN_S,
        pauses_s: tuple[float, float] = (_FIRST_S, _LONGEST_S),
    ) -> None:
        self._shell = shell
        self._local = local
        self._wanted = wanted
        self._told = told
        self._rng = rng or random.Random()
        self._turn_s = turn_s
        self._first_s, self._longest_s = pauses_s
        self._making = asyncio.Semaphore(AT_ONCE)
        self._held: dict[str, _Held] = {}

    @property
    def up(self) -> frozenset[str]:
        """Those that lead here now."""
        return frozenset(key for key, held in self._held.items() if held.up)

    async def run(self) -> None:
        """Until cancelled; then none is left."""
        try:
            while True:
                try:
                    await self.turn()
                except Exception as error:  # what is held goes on being held
                    _log.error("tunnels.turn_failed", error=repr(error), exc_info=error)
                await asyncio.sleep(self._turn_s)
        finally:
            await self._drop(set(self._held))

    async def turn(self) -> None:
        """Hold what is wanted, and nothing else."""
        wanted = await self._wanted()
        moved = {key for key, held in self._held.items() if key in wanted and held.elsewhere(wanted[key])}
        await self._drop((self._held.keys() - wanted.keys()) | moved)
        for key, one in wanted.items():
            if key in self._held and not self._held[key].task.done():
                self._held[key].way = one
            else:
                self._held[key] = _Held(asyncio.create_task(self._hold(key), name=f"tunnel {key}"), one)

    async def _drop(self, keys: set[str]) -> None:
        tasks = [self._held.pop(key).task for key in keys]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _hold(self, key: str) -> None:
        pause_s, said = self._first_s, ""
        while True:
            held = self._held[key]
            try:
                await self._once(key, held)
                pause_s, said = self._first_s, ""
            except BootstrapError as error:
                if error.message != said and await self._said(key, error):
                    said = error.message
                if isinstance(error, HostKeyMismatch):
                    pause_s = self._longest_s
            except Exception as error:
                _log.error("tunnel.stumbled", machine=key, error=repr(error), exc_info=error)
            held.up = False
            await asyncio.sleep(pause_s * self._rng.uniform(0.5, 1.0))
            pause_s = min(pause_s * 2, self._longest_s)

    async def _said(self, key: str, error: BootstrapError) -> bool:
        try:
            await self._told(key, error)
        except Exception as trouble:  # whoever is told has trouble of his own
            _log.error("tunnel.not_told", machine=key, error=error.message, trouble=repr(trouble))
            return False
        return True

    async def _once(self, key: str, held: _Held) -> None:
        """Returns when the connection has ended. Raises: BootstrapError when it was never of use."""
        async with self._making:
            opened = self._shell.connect(held.way.login)
            session = await opened.__aenter__()
        try:
            await session.join(held.way.socket, self._local)
            await held.way.greet(session)
            held.up = True
            await self._told(key, None)
            await session.closed()
        finally:
            await opened.__aexit__(None, None, None)
