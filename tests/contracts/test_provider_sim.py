"""The simulated cloud keeps the laws of Provider, late visibility included: what episodes prove rests on that."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from provisioner.domain.errors import ProviderError
from provisioner.domain.job import Need
from provisioner.domain.ports import Provider
from tests.fakes.simcloud import Faults, SimCloud
from tests.fakes.virtual import SimClock, run_virtually

from .hand_over_laws import HandOverLaws
from .provider_laws import ProviderLaws, ProviderWorld, listed, order


def in_virtual_time(case: Callable[..., Any]) -> Callable[..., None]:
    """The same law, on a loop that jumps."""

    def run(self: object) -> None:
        async def main() -> None:
            clock = SimClock()
            cloud = SimCloud(clock, random.Random(7), faults=Faults.none(), tells_ended=True)
            world = ProviderWorld("c-1", clock.sleep, lambda name: "{}", gpu="T4")
            await case(self, **{"provider": cloud, "world": world} if "world" in _words(case) else {"provider": cloud})

        run_virtually(main())

    run.__doc__ = case.__doc__
    return run


def _words(case: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(case).parameters)


class TestSimCloud:
    """Made from the laws below."""


for _laws in (ProviderLaws, HandOverLaws):
    for _name, _case in inspect.getmembers(_laws, inspect.iscoroutinefunction):
        setattr(TestSimCloud, _name, in_virtual_time(_case))


def test_every_law_is_among_them() -> None:
    laws = {name[5:7] for name in dir(TestSimCloud) if name.startswith("test_l")}
    assert laws == {"l1", "l2", "l3", "l4", "l5", "l7", "l8", "l9"}
    assert {name[5:7] for name in dir(TestSimCloud) if name.startswith("test_d")} == {"d1", "d2", "d3"}


@pytest.mark.parametrize("seed", range(5))
def test_l6_at_its_worst_only_errors_of_ours_come_out(seed: int) -> None:
    async def main() -> None:
        clock = SimClock()
        worst = Faults(**{name: 0.3 for name in Faults.__dataclass_fields__ if name != "short_listing"})
        cloud: Provider = SimCloud(clock, random.Random(seed), faults=worst)
        calls: list[Callable[[], Any]] = [
            lambda: cloud.offers(Need()),
            cloud.machines,
            lambda: _launched(cloud, clock),
            lambda: cloud.terminate("", "runner-i-l6", "north"),
        ]
        for call in calls * 20:
            try:
                await call()
            except ProviderError:
                await clock.sleep(1.0)

    run_virtually(main())


async def _launched(cloud: Provider, clock: SimClock) -> None:
    world = ProviderWorld("c-1", clock.sleep, lambda name: "{}")
    await cloud.launch(await order(cloud, world, "runner-i-l6"))


def test_l7_a_launch_in_flight_takes_effect_though_nobody_waits() -> None:
    async def main() -> None:
        clock = SimClock()
        cloud = SimCloud(clock, random.Random(1), faults=Faults.none())
        world = ProviderWorld("c-1", clock.sleep, lambda name: "{}")
        launch = asyncio.create_task(cloud.launch(await order(cloud, world, "runner-i-flight")))
        await clock.sleep(0.5)
        launch.cancel()
        await clock.sleep(timedelta(seconds=30).total_seconds())
        assert len(await listed(cloud, "runner-i-flight")) == 1

    run_virtually(main())
