"""Registrations that take longer than those who ask wait: made once, and told to whoever asks next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from provisioner.domain.errors import ForgeUnreachable
from provisioner.domain.forge import Registration
from provisioner.engine.registering import Registering
from tests.fakes.virtual import run_virtually

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
        registering = Registering(15.0)

        async def ask() -> str:
            try:
                return (await registering.run("runner-i-1", forge.register)).secret
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


def test_who_asks_of_a_controller_that_leaves_is_refused_and_not_cancelled() -> None:
    async def main() -> None:
        registering, forge = Registering(15.0), Forge(40.0)
        asked = asyncio.create_task(registering.run("runner-i-1", forge.register))
        await asyncio.sleep(1)
        await registering.close()
        with pytest.raises(ForgeUnreachable, match=STILL):
            await asked
        assert forge.made == 0

    run_virtually(main())
