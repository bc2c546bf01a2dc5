"""A queue that a simulated forge keeps for a pool: the JobQueue port over virtual time, with faults.

It tells of every job that asks for its one label and for nothing else. `drop` loses what would be told; `claims` is
added to what it counts. Who has it and dies without closing it keeps it for `session_s`.
"""

from __future__ import annotations

import itertools

from provisioner.domain.errors import ForgeThrottled, ForgeUnreachable
from provisioner.domain.forge import CiJobState
from provisioner.domain.job_queue import Batch, JobQueue
from provisioner.domain.ports import Clock
from tests.fakes.trouble import Trouble, due

from .poolforge import PoolForge, PoolJob

_LONGEST_S = 50.0
_STEP_S = 1.0


class SimQueue:
    """The OpensQueue port, and what is kept at the forge."""

    def __init__(self, forge: PoolForge, clock: Clock, label: str, session_s: float = 60.0) -> None:
        self.forge = forge
        self.clock = clock
        self.label = label
        self.session_s = session_s
        self.messages: dict[int, PoolJob] = {}
        self.numbers = itertools.count(1)
        self.held: _Held | None = None
        self.troubles: list[Trouble] = []
        self.drop = False
        self.claims = 0
        self.opened = 0
        self.told: list[tuple[int, str]] = []
        forge.queues.append(self)

    def tell(self, job: PoolJob) -> None:
        if job.labels == (self.label,) and not self.drop:
            self.messages[next(self.numbers)] = job

    def waiting(self) -> int:
        mine = (job for job in self.forge.jobs.values() if job.labels == (self.label,))
        return self.claims + sum(job.state is CiJobState.QUEUED for job in mine)

    async def open(self) -> JobQueue:
        await self.call("open")
        if self.held is not None and self.clock.monotonic() - self.held.heard_s < self.session_s:
            raise ForgeThrottled("another has it", retry_after_s=5.0)
        self.opened += 1
        self.held = _Held(self)
        await self.answer("open")
        return self.held

    async def call(self, name: str) -> None:
        trouble = due([one for one in self.troubles if not one.lose], name)
        await self.clock.sleep(0.05)
        if trouble is not None or self.forge.away():
            raise ForgeUnreachable("502")

    async def answer(self, name: str) -> None:
        if due([one for one in self.troubles if one.lose], name) is not None or self.forge.answer_gets_lost():
            raise ForgeUnreachable("504")


class _Held:
    def __init__(self, queue: SimQueue) -> None:
        self._queue = queue
        self._first = True
        self._last = 0
        self.heard_s = queue.clock.monotonic()

    def _check(self) -> None:
        if self._queue.held is not self:
            raise ForgeUnreachable("the session is over")
        self.heard_s = self._queue.clock.monotonic()

    async def next(self, room: int) -> Batch | None:
        await self._queue.call("next")
        self._check()
        if self._first:
            self._first = False
            return Batch("", (), self._queue.waiting())
        until_s = self._queue.clock.monotonic() + _LONGEST_S
        while self._queue.clock.monotonic() < until_s:
            self._check()
            if (number := min((n for n in self._queue.messages if n > self._last), default=0)) > 0:
                job = self._queue.messages[number]
                self._queue.told.append((number, job.id))
                await self._queue.answer("next")
                return Batch(str(number), (job.told(None if job.fork else False),), self._queue.waiting())
            await self._queue.clock.sleep(_STEP_S)
        return None

    async def confirm(self, batch: Batch) -> None:
        await self._queue.call("confirm")
        self._check()
        self._queue.messages.pop(int(batch.id), None)
        self._last = int(batch.id)
        await self._queue.answer("confirm")

    async def close(self) -> None:
        if self._queue.held is self:
            self._queue.held = None
