"""Runner records at forges that do not keep names apart: one a name, whatever was lost on the way.

A record of the same name is looked for and removed before another is made. What was asked for without a clear answer
may exist without being listed yet, so that the next one under that name waits until it would be.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from provisioner.domain.errors import ForgeUnreachable
from provisioner.domain.forge import Registration
from provisioner.domain.ports import Clock

from .turns import Turns

_REMEMBERED = 10_000  # arbitrary: names whose record's id is known before it is listed


@dataclass(frozen=True, slots=True)
class Keeper:
    """What one forge does with records. `remove` raises RunnerBusy where there is a job; absence is success."""

    find: Callable[[str], Awaitable[list[str]]]
    remove: Callable[[str], Awaitable[None]]


class Records:
    def __init__(self, clock: Clock, visibility_s: float) -> None:
        self._clock = clock
        self._visibility_s = visibility_s
        self._turns = Turns()
        self._unclear: set[str] = set()
        self._ours: OrderedDict[str, str] = OrderedDict()

    async def make(self, name: str, keeper: Keeper, make: Callable[[], Awaitable[Registration]]) -> Registration:
        """Raises: ForgeError."""
        return await self._turns.run(name, lambda: self._make(name, keeper, make))

    async def _make(self, name: str, keeper: Keeper, make: Callable[[], Awaitable[Registration]]) -> Registration:
        if name in self._unclear:
            await self._clock.sleep(self._visibility_s)
        await self._remove_all(name, keeper)
        try:
            given = await make()
        except ForgeUnreachable:
            self._unclear.add(name)
            raise
        self._unclear.discard(name)
        self._ours[name] = given.forge_id
        if len(self._ours) > _REMEMBERED:
            self._ours.popitem(last=False)
        return given

    async def drop(self, name: str, forge_id: str, keeper: Keeper) -> None:
        """The record `forge_id`, or all of that name where the id is not known. Raises: ForgeError."""
        if forge_id:
            await self._turns.run(name, lambda: keeper.remove(forge_id))
        else:
            await self._turns.run(name, lambda: self._remove_all(name, keeper))

    async def _remove_all(self, name: str, keeper: Keeper) -> None:
        found = await keeper.find(name)
        ours = self._ours.get(name)
        for forge_id in [*found, *([ours] if ours and ours not in found else [])]:
            await keeper.remove(forge_id)
        self._ours.pop(name, None)

    async def close(self) -> None:
        await self._turns.close()
