"""Ports whose every call may be the last: the process of a simulated controller, and how it is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from provisioner.domain.store import Store


class CrashNow(BaseException):
    """The controller is killed here."""


class Watching(Protocol):
    """Who says when, and may alter what a call does. `moment` raises CrashNow."""

    async def moment(self, life: Life) -> None: ...
    async def altered(self, name: str, call: Callable[..., Awaitable[Any]], arguments: Any, options: Any) -> Any: ...


class Life:
    """One run of the controller's process."""

    def __init__(self) -> None:
        self.dead = False
        self.killed = asyncio.Event()


class Hooked:
    """A port whose every call may be the last: killed before the effect, or after it and before it is known."""

    def __init__(self, world: Watching, life: Life, port: Any) -> None:
        self._world = world
        self._life = life
        self._port = port

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not asyncio.iscoroutinefunction(found):
            return found
        world, life = self._world, self._life

        async def call(*arguments: Any, **options: Any) -> Any:
            await world.moment(life)
            answer = await world.altered(name, found, arguments, options)
            await world.moment(life)
            return answer

        self.__dict__[name] = call
        return call


class HookedStore:
    def __init__(self, world: Watching, life: Life, store: Store) -> None:
        self.jobs = Hooked(world, life, store.jobs)
        self.instances = Hooked(world, life, store.instances)
        self.records = Hooked(world, life, store.records)
        self.runners = Hooked(world, life, store.runners)
        self.ci_jobs = Hooked(world, life, store.ci_jobs)
        self.reruns = Hooked(world, life, store.reruns)
