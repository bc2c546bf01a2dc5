"""The laws of the JobQueue port, as tests for every forge that keeps a queue for a pool."""

from __future__ import annotations

import asyncio
from typing import Protocol

import pytest

from provisioner.domain.errors import ForgeError, ForgeThrottled
from provisioner.domain.forge import CiJob, CiJobState, Forge, Site
from provisioner.domain.job_queue import Batch, JobQueue, OpensQueue

QUEUED, RUNNING, DONE = CiJobState


class QueueWorld(Protocol):
    """A forge with one queue, before anybody has opened it. Jobs are named by the ids that `Forge.queued` gives."""

    site: Site
    credentials: tuple[str, ...]
    calls: tuple[str, ...]

    def queue(self) -> str: ...
    def give(self, job_id: str) -> None: ...
    def finish(self, job_id: str) -> None: ...
    def let_rights_end(self) -> None: ...
    def forget_dead_holders(self) -> None: ...
    def fail(self, call: str, *, done: bool) -> None:
        """The next such call; `done`: only its answer is lost."""


async def told(queue: JobQueue) -> Batch:
    """The next one that has jobs."""
    for _ in range(20):
        batch = await queue.next(5)
        if batch is not None and batch.id:
            return batch
    raise AssertionError("nothing was told")


async def silent(queue: JobQueue) -> bool:
    batches = [await queue.next(5) for _ in range(2)]
    return not any(batch is not None and batch.id for batch in batches)


def known(batch: Batch) -> dict[str, CiJobState]:
    return {job.id: job.state for job in batch.jobs}


class JobQueueLaws:
    """Subclasses give `world`, its `forge`, and `opens`, which opens its queue."""

    @pytest.fixture
    async def queue(self, opens: OpensQueue, world: QueueWorld) -> JobQueue:
        """Open, and nothing told yet."""
        opened = await opens.open()
        assert await silent(opened)
        return opened

    async def test_q1_what_was_not_confirmed_is_told_again_and_what_was_is_not(
        self, queue: JobQueue, opens: OpensQueue, world: QueueWorld
    ) -> None:
        first = world.queue()
        assert known(await told(queue)) == {first: QUEUED}
        await queue.close()
        again = await opens.open()
        batch = await told(again)
        assert known(batch) == {first: QUEUED}
        await again.confirm(batch)
        await again.confirm(batch)
        assert await silent(again)
        await again.close()
        last = await opens.open()
        assert await silent(last)
        second = world.queue()
        assert second in known(await told(last))
        await last.close()

    async def test_q1_a_job_is_told_of_from_its_beginning_to_its_end(self, queue: JobQueue, world: QueueWorld) -> None:
        job = world.queue()
        seen = []
        for step in (lambda: None, lambda: world.give(job), lambda: world.finish(job)):
            step()
            batch = await told(queue)
            seen.append(known(batch)[job])
            await queue.confirm(batch)
        assert seen == [QUEUED, RUNNING, DONE]
        await queue.close()

    async def test_q2_jobs_are_those_that_the_forge_lists(
        self, queue: JobQueue, forge: Forge, world: QueueWorld
    ) -> None:
        for _ in range(3):
            world.queue()
        found: dict[object, CiJob] = {}
        while len(found) < 3:
            batch = await told(queue)
            await queue.confirm(batch)
            found |= {job.key: job for job in batch.jobs}
        listed = {job.key: job for job in await forge.queued(world.site)}
        assert found.keys() == listed.keys()

        def facts(job: CiJob) -> tuple[object, ...]:
            return job.labels, job.repository, job.run_id, job.name, job.created_at

        assert {key: facts(job) for key, job in found.items()} == {key: facts(job) for key, job in listed.items()}
        await queue.close()

    async def test_q2_it_counts_those_that_wait(self, opens: OpensQueue, world: QueueWorld) -> None:
        """Also at its beginning, when nothing is told."""
        jobs = [world.queue() for _ in range(3)] if await _made(opens) else []
        world.give(jobs[0])
        queue = await opens.open()
        first = await queue.next(5)
        assert first is not None
        assert (first.id, first.waiting) == ("", 2)
        await queue.close()

    async def test_q3_it_is_open_once_and_who_has_it_is_not_disturbed(
        self, queue: JobQueue, opens: OpensQueue, world: QueueWorld
    ) -> None:
        with pytest.raises(ForgeThrottled):
            await opens.open()
        job = world.queue()
        batch = await told(queue)
        assert known(batch) == {job: QUEUED}
        await queue.confirm(batch)
        await queue.close()

    async def test_q3_that_of_a_dead_holder_is_had_after_a_while(
        self, queue: JobQueue, opens: OpensQueue, world: QueueWorld
    ) -> None:
        job = world.queue()
        await told(queue)
        with pytest.raises(ForgeThrottled) as refused:
            await opens.open()
        assert refused.value.retry_after_s > 0
        world.forget_dead_holders()
        again = await opens.open()
        assert known(await told(again)) == {job: QUEUED}
        await again.close()

    async def test_q4_rights_that_end_are_renewed(self, queue: JobQueue, world: QueueWorld) -> None:
        world.let_rights_end()
        job = world.queue()
        batch = await told(queue)
        assert known(batch) == {job: QUEUED}
        world.let_rights_end()
        await queue.confirm(batch)
        assert await silent(queue)
        world.let_rights_end()
        await queue.close()

    @pytest.mark.parametrize("done", [False, True], ids=["not done", "done"])
    async def test_q5_whatever_fails_is_our_error_and_opening_it_anew_is_enough(
        self, opens: OpensQueue, world: QueueWorld, done: bool
    ) -> None:
        """Every call fails once, and the job is told of and confirmed all the same."""
        await _made(opens)
        for call in world.calls:
            world.fail(call, done=done)
            job = world.queue()
            errors = await _got_over(opens, world, job)
            assert len(errors) <= 2, f"{call}: {errors}"
            for error in errors:
                assert not any(secret in f"{error.line} {error!r} {error.__cause__!r}" for secret in world.credentials)

    async def test_q6_who_gives_up_waiting_loses_nothing(self, queue: JobQueue, world: QueueWorld) -> None:
        waiting = asyncio.create_task(queue.next(5))
        await asyncio.sleep(0.02)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        job = world.queue()
        assert known(await told(queue)) == {job: QUEUED}
        await queue.close()


async def _made(opens: OpensQueue) -> bool:
    """The queue is at the forge, and closed."""
    queue = await opens.open()
    await queue.close()
    return True


async def _got_over(opens: OpensQueue, world: QueueWorld, job: str) -> list[ForgeError]:
    """What happened until the job was told of and confirmed."""
    heard, errors = set[str](), list[ForgeError]()
    for _ in range(8):
        world.forget_dead_holders()
        queue: JobQueue | None = None
        try:
            queue = await opens.open()
            batches = [batch for _ in range(2) if (batch := await queue.next(5)) is not None and batch.id]
            heard |= {key for batch in batches for key in known(batch)}
            for batch in batches:
                await queue.confirm(batch)
            if job in heard:
                return errors
        except ForgeError as error:
            errors.append(error)
        finally:
            if queue is not None:
                await queue.close()
    raise AssertionError(f"never got over: {errors}")
