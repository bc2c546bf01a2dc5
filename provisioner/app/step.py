"""The own controller of a CI step: it lives as long as the command that started it, and ends with it.

The command holds a pipe to it. What it says there before it closes it tells whether the machines are to go on without
anybody, or everything is taken back: that is done before this controller ends, however the command has ended.
"""

from __future__ import annotations

import asyncio
import os
import sys

import structlog

from provisioner.domain.handing import Handing
from provisioner.domain.job import Job, JobPhase

from .compose import Controller

RELEASE = b"release"  # what the command says when all of its machines look after themselves
_LOOK_S = 0.2
_DOOR_S = 15.0  # arbitrary: the step waits for it
_OPEN = (JobPhase.QUEUED, JobPhase.RUNNING, JobPhase.HELD)
_log = structlog.get_logger()


class Step:
    """`run` returns why the controller is to end; `gone(why)` says that the command is, whatever its pipe says.

    Also the HandOvers port: the command hears that its last machine is alone only once nobody is let in to any, so
    that from then on it does not matter what ends this controller."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._gone = asyncio.Event()

    async def ask(self, job_id: str) -> Handing:
        told = await self._controller.engine.hand_overs.ask(job_id)
        if told.state == "alone" and await self._all_alone():
            await self.shut_doors()
        return told

    async def alone(self, job_id: str) -> bool:
        return await self._controller.engine.hand_overs.alone(job_id)

    async def _all_alone(self) -> bool:
        jobs = await self._controller.store.jobs.find(phases=_OPEN, limit=1000)
        return all([await self.alone(job.id) for job in jobs])

    def gone(self, why: str) -> None:
        _log.info("step.gone", why=why)
        self._gone.set()

    async def run(self) -> str:
        reading = asyncio.create_task(_said(), name="the step's pipe")
        waiting = asyncio.create_task(self._gone.wait(), name="the step's end")
        await asyncio.wait({reading, waiting}, return_when=asyncio.FIRST_COMPLETED)
        released = reading.done() and reading.result().strip() == RELEASE
        for task in (reading, waiting):
            task.cancel()
        left = await self._take_back(released=released)
        return f"its step is over, released: {released}, left to their own limits: {left}"

    async def _take_back(self, *, released: bool) -> int:
        """Everything that was not released is cancelled, and waited for, since nobody else would end it; but not for
        longer than it would take machines to end by themselves. How many are left all the same."""
        c = self._controller
        patience_s, began_s = c.policy.deadman_bound_s, c.clock.monotonic()
        while left := await self._ours(released=released):
            if c.clock.monotonic() - began_s > patience_s:
                break
            await asyncio.sleep(_LOOK_S)
        return left

    async def _ours(self, *, released: bool) -> int:
        """Cancel what is still wanted. How many machines are there that do not look after themselves."""
        c = self._controller
        alone: set[str] = set()
        for job in await c.store.jobs.find(phases=_OPEN, limit=1000):
            if released and await self.alone(job.id):
                alone |= {one.instance_id for one in await c.store.jobs.attempts(job.id)}
            else:
                await self._cancel(job)
        return sum(one.id not in alone for one in await c.store.instances.find())

    async def _cancel(self, job: Job) -> None:
        if job.cancel_asked_at is None:
            await self._controller.store.jobs.ask_cancel(job.id, self._controller.clock.now(), now=False)
            self._controller.engine.desk.poke()

    async def shut_doors(self) -> None:
        """Nobody goes to these machines any more, and the address of a CI machine is somebody else's tomorrow."""
        try:
            await asyncio.wait_for(self._controller.clouds.reach.shut(), _DOOR_S)
        except TimeoutError:
            _log.warning("door.not_shut", why=f"no answer within {_DOOR_S:g} s")


async def _said() -> bytes:
    """All that comes through the pipe until it is closed."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    pipe = os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        return await reader.read()
    finally:
        transport.close()
