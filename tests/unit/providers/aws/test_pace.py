"""Calls wait for their tokens: never faster than the rate, in order, deletes beside launches."""

from __future__ import annotations

import asyncio
import itertools

from provisioner.providers.aws.pace import RATES, Bucket, Calls, Rate
from tests.fakes.virtual import SimClock, run_virtually


async def taken_at(bucket: Bucket, clock: SimClock, times: int) -> list[float]:
    """When each of `times` takers, who all came now, had its token."""
    began, at = clock.monotonic(), []

    async def one() -> None:
        await bucket.take()
        at.append(clock.monotonic() - began)

    await asyncio.gather(*(one() for _ in range(times)))
    return at


def test_a_burst_goes_at_once_and_the_rest_at_the_rate() -> None:
    async def run() -> None:
        clock = SimClock()
        at = await taken_at(Bucket(Rate(5, 2), clock), clock, 25)
        assert at[:5] == [0.0] * 5
        assert [round(b - a, 6) for a, b in itertools.pairwise(at[5:])] == [0.5] * 19

    run_virtually(run())


def test_tokens_come_back_and_never_more_than_fit() -> None:
    async def run() -> None:
        clock = SimClock()
        bucket = Bucket(Rate(5, 2), clock)
        await taken_at(bucket, clock, 5)
        await clock.sleep(1000.0)
        assert (await taken_at(bucket, clock, 6))[-1] == 0.5

    run_virtually(run())


def test_what_the_cloud_says_is_empty_is_empty() -> None:
    async def run() -> None:
        clock = SimClock()
        bucket = Bucket(Rate(100, 2), clock)
        bucket.empty()
        assert await taken_at(bucket, clock, 2) == [0.5, 1.0]

    run_virtually(run())


def test_whoever_stops_waiting_takes_nothing() -> None:
    async def run() -> None:
        clock = SimClock()
        bucket = Bucket(Rate(1, 1), clock)
        await bucket.take()
        waiting = asyncio.create_task(bucket.take())
        await asyncio.sleep(0.5)
        waiting.cancel()
        assert await taken_at(bucket, clock, 1) == [0.5]

    run_virtually(run())


def test_two_hundred_launches_are_within_a_fifth_of_the_buckets_own_time() -> None:
    """EC2's own bucket for RunInstances: 5 at once, then 2 a second."""

    async def run() -> None:
        clock, published = SimClock(), Rate(5, 2)
        at = await taken_at(Bucket(RATES[Calls.LAUNCH], clock), clock, 200)
        allowed = await taken_at(Bucket(published, clock), clock, 200)
        assert all(ours >= theirs for ours, theirs in zip(at, allowed, strict=True))
        assert at[-1] <= 1.2 * allowed[-1]

    run_virtually(run())
