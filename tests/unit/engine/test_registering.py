"""Registrations that take longer than those who ask wait: made once, and told to whoever asks next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from provisioner.domain.errors import ForgeThrottled, ForgeUnreachable
from provisioner.domain.forge import Registration
from provisioner.engine.registering import Registering
from tests.fakes.virtual import SimClock, run_virtually

STILL = "runner-i-1 is still being registered"


class Forge:
    """Makes one in `takes_s`, or fails as often as there are `troubles`."""

    def __init__(self, takes_s: float, *troubles: str) -> None:
        self.takes_s, self.troubles, self.made = takes_s, list(troubles), 0

    async def register(self) -> Registration:
        await asyncio.sleep(self.takes_s)
        if self.troubles:
            raise ForgeUnreachable(self.troubles.pop(0))
        self.made += 1
        return Registration(str(self.made), "runner-i-1", f"secret-{self.made}")


def asking(forge: Forge, script: Callable[[Callable[[], Coroutine[Any, Any, str]]], Coroutine[Any, Any, None]]) -> None:
    """`script` is given what an agent does: its secret, or why there is none."""

    async def main() -> None:
        registering = Registering(SimClock(), 15.0)

        async def ask() -> str:
            try:
                return (await registering.run("runner-i-1", "octo", forge.register)).secret
            except ForgeUnreachable as error:
                return error.message

        await script(ask)
        await registering.close()

    run_virtually(main())


def test_one_that_takes_long_is_made_once_however_often_it_is_asked_for() -> None:
    forge = Forge(40.0)

    async def script(ask: Callable[[], Coroutine[Any, Any, str]]) -> None:
        assert [await ask() for _ in range(3)] == [STILL, STILL, "secret-1"]
        assert forge.made == 1

    asking(forge, script)


def test_what_nobody_waited_for_is_told_to_who_asks_next_and_to_nobody_after_that() -> None:
    """Who asks after an answer did not get it: what they were told may have been read by the forge's program."""
    forge = Forge(20.0)

    async def script(ask: Callable[[], Coroutine[Any, Any, str]]) -> None:
        assert await ask() == STILL
        await asyncio.sleep(60)
        assert await ask() == "secret-1"
        forge.takes_s = 1.0
        assert await ask() == "secret-2"

    asking(forge, script)


@pytest.mark.parametrize("takes_s", [1.0, 20.0])
def test_a_failure_is_told_once_and_then_it_is_tried_again(takes_s: float) -> None:
    forge = Forge(takes_s, "502")

    async def script(ask: Callable[[], Coroutine[Any, Any, str]]) -> None:
        said = [await ask() for _ in range(4)]
        assert [one for one in said if one != STILL][:2] == ["502", "secret-1"]

    asking(forge, script)


def test_who_is_throttled_is_made_as_soon_as_it_is_let_in_the_order_of_who_asked_first() -> None:
    """Nobody asks again: turns do not wait for agents. Two are let in every 20 seconds."""
    made: list[tuple[int, float]] = []

    async def main() -> None:
        clock = SimClock()
        registering, room = Registering(clock, 15.0), {0.0: 2, 20.0: 2, 40.0: 2}

        async def register(number: int) -> Registration:
            at_s = clock.monotonic() // 20 * 20
            if not room[at_s]:
                raise ForgeThrottled("slow down", retry_after_s=at_s + 20 - clock.monotonic())
            room[at_s] -= 1
            made.append((number, clock.monotonic()))
            return Registration(str(number), f"runner-{number}", "secret")

        async def ask(number: int) -> None:
            await clock.sleep(number)
            with suppress(ForgeUnreachable):
                await registering.run(f"runner-{number}", "octo", lambda: register(number))

        await asyncio.gather(*(ask(number) for number in range(6)))
        await clock.sleep(60)
        await registering.close()

    run_virtually(main())
    assert made == [(0, 0.0), (1, 1.0), (2, 20.0), (3, 20.0), (4, 40.0), (5, 40.0)]


def test_who_is_forgotten_while_it_waits_for_its_turn_is_never_made() -> None:
    async def main() -> None:
        clock, told = SimClock(), list[str]()
        registering = Registering(clock, 15.0)

        async def register() -> Registration:
            told.append("throttled" if clock.monotonic() < 30 else "made")
            raise ForgeThrottled("slow down", retry_after_s=30.0)

        with pytest.raises(ForgeUnreachable, match=STILL):
            await registering.run("runner-i-1", "octo", register)
        registering.forget("runner-i-1")
        await clock.sleep(60)
        assert told == ["throttled"]

    run_virtually(main())


def test_who_asks_of_a_controller_that_leaves_is_refused_and_not_cancelled() -> None:
    async def main() -> None:
        registering, forge = Registering(SimClock(), 15.0), Forge(40.0)
        asked = asyncio.create_task(registering.run("runner-i-1", "octo", forge.register))
        await asyncio.sleep(1)
        await registering.close()
        with pytest.raises(ForgeUnreachable, match=STILL):
            await asked
        assert forge.made == 0

    run_virtually(main())
