"""What an identity may still ask: holds, allowances with a share for removals, and our own paces."""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left

import pytest

from provisioner.domain.errors import ForgeThrottled
from provisioner.forges.budget import Allowance, Budget, Rate
from provisioner.forges.github.account import READS, WRITES
from tests.fakes.hand_clock import HandClock
from tests.fakes.virtual import SimClock, run_virtually


async def enter(budget: Budget, resource: str = "core", removal: bool = False) -> None:
    async with budget.turn(resource, removal):
        pass


async def test_a_refusal_without_a_time_is_a_minute_and_then_longer() -> None:
    budget = Budget(HandClock())
    assert [budget.hold(None) for _ in range(6)] == [60.0, 120.0, 240.0, 480.0, 900.0, 900.0]
    budget.served()
    assert budget.hold(None) == 60.0


async def test_nothing_is_let_in_while_it_is_held() -> None:
    clock = HandClock()
    budget = Budget(clock)
    budget.hold(30.0)
    for removal in (False, True):
        with pytest.raises(ForgeThrottled) as caught:
            await enter(budget, removal=removal)
        assert caught.value.retry_after_s == 30.0
    clock.move(30.0)
    await enter(budget)


async def test_what_is_on_its_way_counts_before_its_answer_has_come() -> None:
    budget = Budget(HandClock())
    budget.note("core", "core", Allowance(100, 23, 3600.0))
    for _ in range(3):
        await enter(budget)
    with pytest.raises(ForgeThrottled, match="kept for removals"):
        await enter(budget)
    for _ in range(20):
        await enter(budget, removal=True)
    with pytest.raises(ForgeThrottled, match="nothing is left"):
        await enter(budget, removal=True)


async def test_an_answer_that_was_overtaken_gives_nothing_back() -> None:
    budget = Budget(HandClock())
    budget.note("core", "core", Allowance(100, 20, 3600.0))
    budget.note("core", "core", Allowance(100, 90, 3600.0))
    with pytest.raises(ForgeThrottled):
        await enter(budget)
    budget.note("core", "core", Allowance(100, 100, 7200.0))
    await enter(budget)


async def test_what_the_forge_counts_together_is_counted_together() -> None:
    """An Enterprise Server has no limit of its own for registrations, and its answers say so."""
    budget = Budget(HandClock())
    budget.note("registration", "core", Allowance(100, 5, 3600.0))
    with pytest.raises(ForgeThrottled):
        await enter(budget, "registration")


async def test_an_answer_that_says_nothing_of_what_is_left_takes_nothing_back() -> None:
    """A gateway's, or a refusal that counts by other rules: what was known holds on."""
    budget = Budget(HandClock())
    budget.note("core", "throttle_authenticated_api", Allowance(100, 5, 3600.0))
    budget.note("core", "core", None)
    with pytest.raises(ForgeThrottled):
        await enter(budget)


@pytest.mark.parametrize(("rate", "points"), [(READS, 1), (WRITES, 5)])
def test_no_minute_of_githubs_has_more_than_it_allows_however_long_calls_are_on_their_way(
    rate: Rate, points: int
) -> None:
    async def run() -> tuple[list[float], float]:
        clock, rng, counted = SimClock(), random.Random(4), []
        budget, places, began_s = Budget(clock), asyncio.Semaphore(100), clock.monotonic()

        async def call() -> None:
            async with budget.turn("core", False, "POST /x", rate, 6000.0), places:
                await clock.sleep(rng.choice([0.1, 0.3, 5.0]))
                counted.append(clock.monotonic() - began_s)
                await clock.sleep(rng.choice([0.1, 0.3, 5.0]))

        await asyncio.gather(*(call() for _ in range(4 * rate.most)))
        return sorted(counted), clock.monotonic() - began_s

    counted, took_s = run_virtually(run())
    most = max(bisect_left(counted, at + 60.0) - number for number, at in enumerate(counted))
    assert 0.95 * 900 <= most * points <= 900
    assert took_s >= 180


async def test_those_who_fit_go_at_once_and_the_others_a_minute_after_the_answers() -> None:
    clock, sent = HandClock(), []
    budget = Budget(clock)
    for _ in range(7):
        async with budget.turn("core", False, "POST /x", Rate(3), 100.0):
            sent.append(clock.monotonic())
            clock.move(1.0)
    assert sent == [0.0, 1.0, 2.0, 61.0, 62.0, 63.0, 122.0]


async def test_who_would_wait_longer_than_it_has_patience_is_told_when() -> None:
    clock = HandClock()
    budget = Budget(clock)
    for _ in range(2):
        async with budget.turn("core", False, "POST /x", Rate(2), 15.0):
            clock.move(5.0)
    async with budget.turn("core", False, "POST /other", Rate(2), 15.0):
        pass
    with pytest.raises(ForgeThrottled, match="wait already") as caught:
        async with budget.turn("core", False, "POST /x", Rate(2), 15.0):
            pass
    assert (caught.value.retry_after_s, clock.monotonic()) == (55.0, 10.0)
    clock.move(45.0)
    async with budget.turn("core", False, "POST /x", Rate(2), 15.0):
        assert clock.monotonic() == 65.0


@pytest.mark.parametrize(("took_s", "again_s"), [(0.0, 60.4), (0.4, 60.1)])
async def test_what_an_exchange_takes_does_not_add_up_where_it_is_known(took_s: float, again_s: float) -> None:
    clock = HandClock()
    budget = Budget(clock)
    async with budget.turn("core", False, "POST /x", Rate(1), 60.0) as exchange:
        clock.move(0.4)
        exchange.took_s = took_s
    async with budget.turn("core", False, "POST /x", Rate(1), 61.0):
        assert clock.monotonic() == pytest.approx(again_s)


async def test_who_may_not_after_all_takes_nobodys_place() -> None:
    clock = HandClock()
    budget = Budget(clock)
    async with budget.turn("core", False, "POST /x", Rate(1), 60.0):
        waiting = asyncio.create_task(_turn(budget))
        await asyncio.sleep(0)
        budget.hold(70.0)
    with pytest.raises(ForgeThrottled, match="patience"):
        await waiting
    clock.move(10.0)
    await _turn(budget)
    assert clock.monotonic() == 70.0


async def test_who_is_sent_away_while_all_are_under_way_leaves_no_trace() -> None:
    clock = HandClock()
    budget = Budget(clock)
    async with budget.turn("core", False, "POST /x", Rate(1), 60.0):
        waiting = asyncio.create_task(_turn(budget))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    assert waiting.cancelled()
    await _turn(budget)
    assert clock.monotonic() == 60.0


async def _turn(budget: Budget) -> None:
    async with budget.turn("core", False, "POST /x", Rate(1), 60.0):
        pass
