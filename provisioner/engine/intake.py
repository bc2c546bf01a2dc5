"""Webhooks that come while others are being stored are stored together, by one write: a burst of them holds up neither
the forge, which waits for each answer, nor everybody else who writes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from provisioner.domain.forge import CiJob
from provisioner.domain.ports import Clock
from provisioner.domain.store import Store
from provisioner.domain.urgency import urgently


class Intake:
    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._waiting: list[tuple[str, Sequence[CiJob], asyncio.Future[bool]]] = []
        self._storing: asyncio.Task[None] | None = None

    async def take(self, delivery_id: str, jobs: Sequence[CiJob]) -> bool:
        """False when it was taken before. It is stored even if whoever asked for it does not wait."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((delivery_id, jobs, answer))
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store_all(), name="store webhooks")
        return await answer

    async def _store_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            told = [(delivery_id, jobs) for delivery_id, jobs, _ in batch]
            try:
                with urgently():
                    fresh = await self._store.ci_jobs.take(told, self._clock.now())
            except BaseException as error:
                for _, _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                if not isinstance(error, Exception):
                    raise
                continue
            for (_, _, answer), one in zip(batch, fresh, strict=True):
                if not answer.done():
                    answer.set_result(one)
