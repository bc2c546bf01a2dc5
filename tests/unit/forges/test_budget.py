"""What an identity may still ask: holds, allowances with a share for removals, and our own paces."""

from __future__ import annotations

import pytest

from provisioner.domain.errors import ForgeThrottled
from provisioner.forges.budget import Allowance, Budget, Rate
from provisioner.forges.github.account import DIALECT
from tests.fakes.hand_clock import HandClock


async def enter(budget: Budget, resource: str = "core", removal: bool = False) -> None:
    await budget.enter(resource, removal)


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


@pytest.mark.parametrize(("rate", "points"), [(DIALECT.reads, 1), (DIALECT.writes, 5)])
async def test_in_no_minute_is_more_sent_to_an_endpoint_of_github_than_it_allows(
    rate: Rate | None, points: int
) -> None:
    """One after the other, as fast as it goes, for three minutes."""
    assert rate is not None
    clock, sent = HandClock(), []
    budget = Budget(clock)
    while clock.monotonic() < 180.0:
        await budget.enter("core", False, "GET /x", rate, 600.0)
        sent.append(clock.monotonic())
    most = max(len([at for at in sent if begin <= at < begin + 60.0]) for begin in range(120))
    assert 0.95 * 900 <= most * points <= 900


async def test_who_would_wait_longer_than_it_has_patience_is_told_when() -> None:
    clock = HandClock()
    budget = Budget(clock)
    for _ in range(3):
        await budget.enter("core", False, "POST /x", Rate(2, 0.1), 15.0)
    assert clock.monotonic() == pytest.approx(10.0)
    await budget.enter("core", False, "POST /other", Rate(2, 0.1), 15.0)
    with pytest.raises(ForgeThrottled, match="waiting already") as caught:
        await budget.enter("core", False, "POST /x", Rate(2, 0.05), 5.0)
    assert caught.value.retry_after_s == pytest.approx(10.0)
    assert clock.monotonic() == pytest.approx(10.0)
