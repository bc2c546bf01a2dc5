"""Calls that are made beside the passes, which never wait for them: one of a name at a time, and none outlives `close`.

Whoever starts one looks again later, and starts it anew if it is still to be done: how it ended is told by what it did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Hashable
from typing import Any

import structlog

_log = structlog.get_logger()


class Errands:
    """`what` is what each of them is called in the log, before its key."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._under_way: dict[Hashable, asyncio.Task[None]] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._under_way

    def start(self, key: Hashable, work: Coroutine[Any, Any, None]) -> None:
        """There must be none of this key."""
        task = self._under_way[key] = asyncio.create_task(work, name=f"{self._what} {key}")
        task.add_done_callback(lambda task: self._ended(key, task))

    def _ended(self, key: Hashable, task: asyncio.Task[None]) -> None:
        del self._under_way[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("errand.failed", errand=task.get_name(), error=repr(error), exc_info=error)

    async def close(self) -> None:
        """End what is under way. Nothing is lost: the rows say what was intended."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
