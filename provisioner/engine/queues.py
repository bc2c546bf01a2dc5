"""Listening to the queues that forges keep for pools: what they tell is stored, and confirmed only then.

A queue that fails is closed and opened again, later each time; polls and webhooks go on beside it. Jobs of which it
counts more than are known have not been told of: their site is polled soon. What it counts rents nothing by itself,
since such counts were seen to be wrong for hours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from provisioner.domain.demand import Source
from provisioner.domain.errors import ForgeError, ForgeThrottled
from provisioner.domain.forge import CiJob, Site
from provisioner.domain.job_queue import Batch, JobQueue, OpensQueue
from provisioner.domain.policy import Policy
from provisioner.domain.pools import Pool
from provisioner.domain.ports import Clock
from provisioner.domain.store import Store

_log = structlog.get_logger()
_CLOSING_S = 5.0
_SHORTEST_S = 1.0  # a queue that answers at once that it has nothing is not asked again at once


@dataclass
class _Heard:
    """Of one queue. `heard_s`: when it last answered, in monotonic seconds; `failures` in a row."""

    heard_s: float | None = None
    failures: int = 0
    trouble: str = ""


class Queues:
    """`run` until cancelled. `relevant` says which jobs any pool might serve; `hurry` has a site polled soon; `news` is
    called when there is some."""

    def __init__(
        self,
        store: Store,
        opens: Mapping[str, OpensQueue],
        pools: Sequence[Pool],
        clock: Clock,
        policy: Policy,
        relevant: Callable[[CiJob], bool],
        hurry: Callable[[Site], None],
        news: Callable[[], None],
    ) -> None:
        self._store = store
        self._opens = {pool: opens[pool.name] for pool in pools if pool.name in opens}
        self._clock = clock
        self._policy = policy
        self._relevant = relevant
        self._hurry = hurry
        self._news = news
        self._heard = {pool.name: _Heard() for pool in self._opens}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for pool, opens in self._opens.items():
                group.create_task(self._keep_listening(pool, opens), name=f"queue of {pool.name}")

    async def _keep_listening(self, pool: Pool, opens: OpensQueue) -> None:
        heard = self._heard[pool.name]
        while True:
            try:
                await self._listen(pool, await opens.open())
            except ForgeError as error:
                if heard.trouble != error.line:
                    _log.warning("queue.silent", pool=pool.name, error=error.message)
                heard.trouble, heard.failures = error.line, heard.failures + 1
                await self._clock.sleep(self._pause_s(heard, error))

    def _pause_s(self, heard: _Heard, error: ForgeError) -> float:
        if isinstance(error, ForgeThrottled):
            return error.retry_after_s
        return min(self._policy.pause_s(heard.failures), self._policy.poll_every_s)

    async def _listen(self, pool: Pool, queue: JobQueue) -> None:
        """Raises: ForgeError, when the queue is of no use any more."""
        heard = self._heard[pool.name]
        try:
            while True:
                asked_s = self._clock.monotonic()
                batch = await queue.next(pool.max)
                if batch is not None:
                    await self._take(pool, queue, batch)
                heard.heard_s, heard.trouble, heard.failures = self._clock.monotonic(), "", 0
                if batch is None and heard.heard_s - asked_s < _SHORTEST_S:
                    await self._clock.sleep(_SHORTEST_S)
        finally:
            with suppress(ForgeError, TimeoutError):
                async with asyncio.timeout(_CLOSING_S):
                    await queue.close()

    async def _take(self, pool: Pool, queue: JobQueue, batch: Batch) -> None:
        now = self._clock.now()
        if jobs := [job for job in batch.jobs if self._relevant(job)]:
            await self._store.ci_jobs.note(jobs, now)
            self._news()
        if batch.unread:
            _log.warning("queue.not_understood", pool=pool.name, message=batch.id)
        if batch.unread or (batch.waiting is not None and batch.waiting > await self._known(pool)):
            self._hurry(pool.sites[0])
        if batch.id:
            await queue.confirm(batch)

    async def _known(self, pool: Pool) -> int:
        believed = await self._store.ci_jobs.believed((), self._clock.now())
        return sum(pool.suits(known.job) for known in believed.waiting)

    def sources(self) -> list[Source]:
        now_s = self._clock.monotonic()
        return [
            Source(f"queue {name}", None if one.heard_s is None else round(now_s - one.heard_s, 1), one.trouble)
            for name, one in self._heard.items()
        ]
