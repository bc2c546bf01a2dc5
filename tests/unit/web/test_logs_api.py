"""Logs to viewers: whole, live, through attempts, and with an end that can be told from a cut."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from provisioner.domain.job import Attempt, JobSpec, Outcome, Reason, Why
from provisioner.domain.ports import LogSpan
from provisioner.web.log_stream import HEADER

from .served import AgentClient, Http, Served, parsed


class Viewer:
    """A followed log, frame by frame, read in a thread."""

    def __init__(self, client: Http, path: str) -> None:
        self._connection = client.connect()
        self._connection.request("GET", path, headers=client.headers)
        self._answer = self._connection.getresponse()

    @classmethod
    async def open(cls, client: Http, path: str) -> Viewer:
        return await asyncio.to_thread(cls, client, path)

    async def frame(self) -> tuple[int, int, int, bytes] | None:
        return await asyncio.to_thread(self._frame)

    def _frame(self) -> tuple[int, int, int, bytes] | None:
        head = self._exactly(HEADER.size)
        if len(head) < HEADER.size:
            return None
        stream, length, offset, attempt, _ = HEADER.unpack(head)
        return stream, offset, attempt, self._exactly(length)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size and (more := self._answer.read(size - len(data))):
            data += more
        return data

    def close(self) -> None:
        self._connection.close()


async def test_a_stored_log_comes_in_frames_of_its_streams(web: Served) -> None:
    agent, attempt = await web.running()
    await agent.log(attempt, 0, (1, b"out\n"), (2, b"err\n"), (1, b"\xff\x00"))
    path = f"/api/v1/jobs/{attempt.job_id}/log"
    assert parsed((await web.control.get(path)).body) == [
        (1, 0, 1, b"out\n"),
        (2, 4, 1, b"err\n"),
        (1, 8, 1, b"\xff\x00"),
    ]
    assert parsed((await web.control.get(f"{path}?offset=5")).body) == [(2, 5, 1, b"rr\n"), (1, 8, 1, b"\xff\x00")]
    assert (await web.control.get(f"{path}?format=text")).body == b"out\nerr\n\xff\x00"
    assert (await web.control.get(f"{path}?offset=99999")).body == b""


async def test_a_job_without_an_attempt_has_an_empty_log(web: Served) -> None:
    job = await web.job()
    assert (await web.control.get(f"/api/v1/jobs/{job.id}/log")).body == b""


@pytest.mark.parametrize("attempt", ["0", "-1", "x", "1e3", "9999999", "+", "all+x"])
async def test_an_attempt_that_is_none_is_refused(web: Served, attempt: str) -> None:
    job = await web.job()
    answer = await web.control.get(f"/api/v1/jobs/{job.id}/log?attempt={attempt}")
    assert (answer.status, answer.kind) == (400, "InvalidRequest")


async def test_attempts_are_told_apart(web: Served) -> None:
    agent, first = await web.running(JobSpec(run="true"))
    await agent.log(first, 0, (1, b"first"))
    await web.store.jobs.end(first, Reason(Why.LOST), web.services.clock.now())
    instance = await web.instance()
    second, other = await web.assigned(await web.store.jobs.get(first.job_id), instance), await web.agent(instance)
    await other.log(second, 0, (1, b"second"))
    path = f"/api/v1/jobs/{first.job_id}/log?format=text&attempt="
    assert (await web.control.get(f"{path}latest")).body == b"second"
    assert (await web.control.get(f"{path}1")).body == b"first"
    assert (await web.control.get(f"{path}all")).body == b"firstsecond"
    assert (await web.control.get(f"{path}all&offset=3")).body == b"stsecond"
    assert (await web.control.get(f"{path}1%2B&offset=3")).body == b"stsecond"
    assert (await web.control.get(f"{path}3")).body == b""


async def test_a_followed_log_is_live_through_attempts_to_the_end(web: Served) -> None:
    instance = await web.instance()
    agent, job = await web.agent(instance), await web.job()
    viewer = await Viewer.open(web.control, f"/api/v1/jobs/{job.id}/log?follow=1")
    try:
        first = await web.assigned(job, instance)
        await agent.log(first, 0, (1, b"one"))
        assert await viewer.frame() == (1, 0, 1, b"one")
        began = time.monotonic()
        await agent.log(first, 3, (2, b"two"))
        assert await viewer.frame() == (2, 3, 1, b"two")
        assert time.monotonic() - began < 0.5
        await web.store.jobs.end(first, Reason(Why.LOST), web.services.clock.now())
        second, other = await _second(web, job.id)
        await other.log(second, 0, (1, b"again"))
        assert await viewer.frame() == (1, 0, 2, b"again")
        now = web.services.clock.now()
        await web.store.jobs.end(second, Reason(Why.EXIT), now, exit_code=3, outcome=Outcome.FAILED)
        frame = await viewer.frame()
        assert frame is not None
        end = json.loads(frame[3])
        assert (frame[0], end["end"], end["job"]["exit_code"], end["job"]["outcome"]) == (3, True, 3, "failed")
        assert await viewer.frame() is None
    finally:
        viewer.close()


async def _second(web: Served, job_id: str) -> tuple[Attempt, AgentClient]:
    instance = await web.instance()
    return await web.assigned(await web.store.jobs.get(job_id), instance), await web.agent(instance)


async def test_a_finished_job_followed_is_its_log_and_its_end(web: Served) -> None:
    agent, attempt = await web.running()
    await agent.log(attempt, 0, (1, b"x" * 100))
    now = web.services.clock.now()
    await web.store.jobs.end(attempt, Reason(Why.EXIT), now, exit_code=0, outcome=Outcome.SUCCEEDED)
    frames = parsed((await web.control.get(f"/api/v1/jobs/{attempt.job_id}/log?follow=1")).body)
    assert [frame[0] for frame in frames] == [1, 3]
    assert (await web.control.get(f"/api/v1/jobs/{attempt.job_id}/log?follow=1&format=text")).body == b"x" * 100


async def test_closing_cuts_a_followed_log_without_an_end_frame(web: Served) -> None:
    _, attempt = await web.running()
    viewer = await Viewer.open(web.control, f"/api/v1/jobs/{attempt.job_id}/log?follow=1")
    began = time.monotonic()
    await asyncio.gather(*(listener.close() for listener in web.listeners))
    assert await viewer.frame() is None
    assert time.monotonic() - began < 3
    viewer.close()


async def test_a_viewer_that_leaves_is_forgotten(web: Served) -> None:
    agent, attempt = await web.running()
    viewer = await Viewer.open(web.control, f"/api/v1/jobs/{attempt.job_id}/log?follow=1")
    await agent.log(attempt, 0, (1, b"x"))
    await viewer.frame()
    viewer.close()
    async with asyncio.timeout(5):
        while web.services.ending.holding:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_large_log_streams_whole(web: Served) -> None:
    _, attempt = await web.running()
    block = bytes(range(256)) * 4096
    for number in range(32):
        spans = [LogSpan(number * len(block), len(block), 1, float(number))]
        await web.services.logs.append(attempt.job_id, 1, number * len(block), spans, block)
    frames = parsed((await web.control.get(f"/api/v1/jobs/{attempt.job_id}/log")).body)
    assert b"".join(frame[3] for frame in frames) == block * 32
