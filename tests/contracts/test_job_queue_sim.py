"""The queue that simulations have keeps the laws of the port, but for rights, of which it has none."""

from __future__ import annotations

import itertools
import random
from typing import cast

import pytest

from provisioner.domain.forge import CiJobState
from provisioner.domain.job_queue import JobQueue
from tests.fakes.hand_clock import HandClock
from tests.fakes.pool_world import ACME
from tests.fakes.poolforge import Mischief, PoolForge, PoolJob
from tests.fakes.simforge import ForgeFaults
from tests.fakes.simqueue import SimQueue
from tests.fakes.trouble import Trouble
from tests.fakes.virtual import SimClock

from .job_queue_laws import JobQueueLaws, QueueWorld


class SimWorld:
    site = ACME
    credentials: tuple[str, ...] = ()
    calls = ("open", "next", "confirm")

    def __init__(self, queue: SimQueue) -> None:
        self._queue = queue
        self._numbers = itertools.count(1)

    def queue(self) -> str:
        job = PoolJob(str(next(self._numbers)), ("gpu",), 10.0, repository="acme/app")
        self._queue.forge.queue(job)
        return job.id

    def give(self, job_id: str) -> None:
        self._move(job_id, CiJobState.RUNNING)

    def finish(self, job_id: str) -> None:
        self._move(job_id, CiJobState.DONE)

    def _move(self, job_id: str, state: CiJobState) -> None:
        job = cast("PoolJob", self._queue.forge.jobs[job_id])
        job.state = state
        self._queue.tell(job)

    def forget_dead_holders(self) -> None:
        cast("HandClock", self._queue.clock).move(self._queue.session_s)

    def fail(self, call: str, *, done: bool) -> None:
        self._queue.troubles.append(Trouble(call, lose=done))


@pytest.fixture
async def forge() -> PoolForge:
    clock = cast("SimClock", HandClock())
    return PoolForge(clock, random.Random(1), Mischief(lose=1.0), ForgeFaults.none())


@pytest.fixture
def opens(forge: PoolForge) -> SimQueue:
    return SimQueue(forge, forge._time, "gpu")


@pytest.fixture
def world(opens: SimQueue) -> SimWorld:
    return SimWorld(opens)


class TestSimulated(JobQueueLaws):
    async def test_q4_rights_that_end_are_renewed(self, queue: JobQueue, world: QueueWorld) -> None:
        pytest.skip("it has no rights")
