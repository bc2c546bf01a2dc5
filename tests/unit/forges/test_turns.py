"""Work under one name is done in turn, and to its end."""

from __future__ import annotations

import asyncio

import pytest

from provisioner.forges.turns import Turns


async def test_what_has_begun_is_ended_before_the_next_though_nobody_waits_for_it() -> None:
    turns, told, free = Turns(), [], asyncio.Event()

    async def first() -> None:
        told.append("first begins")
        await free.wait()
        told.append("first ends")

    async def second() -> None:
        told.append("second")

    given_up = asyncio.ensure_future(turns.run("a", first))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    given_up.cancel()
    waits = asyncio.ensure_future(turns.run("a", second))
    await turns.run("b", second)
    assert told == ["first begins", "second"]
    free.set()
    await waits
    assert told == ["first begins", "second", "first ends", "second"]


async def test_a_failure_is_its_own_only() -> None:
    turns = Turns()

    async def fails() -> None:
        raise ValueError("no")

    async def works() -> int:
        return 7

    failing, working = await asyncio.gather(turns.run("a", fails), turns.run("a", works), return_exceptions=True)
    assert isinstance(failing, ValueError)
    assert working == 7


async def test_closing_waits_for_what_has_begun() -> None:
    turns, told = Turns(), []

    async def slow() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        told.append("ended")

    asking = asyncio.ensure_future(turns.run("a", slow))
    await asyncio.sleep(0)
    asking.cancel()
    await turns.close()
    assert told == ["ended"]
    with pytest.raises(asyncio.CancelledError):
        await asking
