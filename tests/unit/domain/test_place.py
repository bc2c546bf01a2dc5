"""Which offer is taken, and what is said of every other."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from provisioner.domain.gpu import Gpu, GpuNeed
from provisioner.domain.job import MarketPolicy, Need
from provisioner.domain.offer import Market, Offer
from provisioner.domain.place import Ladder, Quota, Refusal, ceilings, place

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
ON_DEMAND = Offer(
    "sim", "north", "north-1", "g1", Market.ON_DEMAND, Decimal("1.20"), "t", "north", 8, 32.0, 200.0, Gpu("T4", 1, 16)
)
SPOT = replace(ON_DEMAND, market=Market.SPOT, usd_per_hour=Decimal("0.40"))
DEAR_SPOT = replace(SPOT, zone="north-2", usd_per_hour=Decimal("2.00"))
UNKNOWN = replace(ON_DEMAND, zone="north-3", usd_per_hour=None)
OFFERS = (ON_DEMAND, UNKNOWN, DEAR_SPOT, SPOT)
CAP = Decimal("10")


def ladder(need: Need | None = None, *refusals: Refusal, cap: Decimal = CAP, force: bool = False) -> Ladder:
    return place(need or Need(), OFFERS, refusals, NOW, cap_usd_per_hour=cap, force_on_demand=force)


def refused(scope: str, seconds: float = 60) -> Refusal:
    return Refusal(scope, NOW + timedelta(seconds=seconds), "no capacity")


@pytest.mark.parametrize(
    ("market", "first"),
    [(MarketPolicy.SPOT_FIRST, SPOT), (MarketPolicy.SPOT, SPOT), (MarketPolicy.ON_DEMAND, ON_DEMAND)],
)
def test_the_cheapest_that_was_asked_for_comes_first(market: MarketPolicy, first: Offer) -> None:
    assert ladder(Need(market=market)).best == first


def test_spot_comes_before_cheaper_on_demand_and_unknown_prices_last() -> None:
    assert [rung.offer for rung in ladder().rungs] == [SPOT, DEAR_SPOT, ON_DEMAND, UNKNOWN]


def test_after_an_interruption_on_demand_is_taken() -> None:
    assert ladder(force=True).best == ON_DEMAND


def test_what_was_refused_is_passed_over_until_its_time_is_over() -> None:
    assert ladder(None, refused(SPOT.key)).best == DEAR_SPOT
    assert ladder(None, refused("sim/north-1")).best == DEAR_SPOT
    assert ladder(None, refused("sim/north")).best == SPOT
    assert ladder(None, refused(SPOT.key, -1)).best == SPOT


def test_an_unknown_price_needs_a_ceiling() -> None:
    everything_else = (refused(SPOT.key), refused(DEAR_SPOT.key), refused(ON_DEMAND.key))
    assert ladder(Need(), *everything_else).best is None
    assert ladder(Need(max_price=Decimal("3")), *everything_else).best == UNKNOWN


def test_a_ceiling_above_the_cap_is_over_the_cap() -> None:
    rungs = ladder(Need(max_price=Decimal("30"))).rungs
    assert [rung.refused for rung in rungs if rung.offer is UNKNOWN] == ["alone costs more than the cap of $10/h"]


def test_waiting_helps_against_refusals_and_not_against_size() -> None:
    assert not ladder(None, refused("sim/north-1"), refused("sim/north-2"), refused("sim/north-3")).impossible
    assert ladder(Need(cpus=9)).impossible
    assert ladder(Need(gpu=GpuNeed(name="H100"))).impossible


def test_over_budget_is_told_from_impossible() -> None:
    assert ladder(cap=Decimal("0.1")).over_budget
    assert not ladder(Need(cpus=9), cap=Decimal("0.1")).over_budget
    assert not ladder().over_budget


def test_a_provider_that_did_not_answer_makes_nothing_impossible() -> None:
    assert Ladder(()).impossible
    assert not Ladder((), unanswered=("sim did not answer",)).impossible


POOLED = (replace(SPOT, pools=("spots",)), ON_DEMAND)


def within(cpus: float, used: float = 0.0) -> Ladder:
    quotas = [Quota("spots", cpus, f"the quota is {cpus:g}")]
    return place(Need(), POOLED, (), NOW, quotas=quotas, used_cpus={"spots": used})


@pytest.mark.parametrize(
    ("cpus", "used", "refused", "lasting"),
    [
        (8, 0, "", False),
        (16, 8, "", False),
        (0, 0, "the quota is 0", True),
        (7, 0, "needs 8 vCPUs, and the quota is 7", True),
        (8, 8, "machines of ours have 8 vCPUs, this needs 8, and the quota is 8", False),
    ],
)
def test_a_quota_refuses_what_it_has_no_room_for(cpus: float, used: float, refused: str, lasting: bool) -> None:
    """Waiting helps against what is in use, and only against that."""
    first, second = within(cpus, used).rungs
    assert (first.refused, first.lasting) == (refused, lasting)
    assert second.refused == ""


WITH_LIST_PRICE = replace(SPOT, on_demand_usd_per_hour=Decimal("1.20"))
UNKNOWN_SPOT = replace(WITH_LIST_PRICE, usd_per_hour=None)


@pytest.mark.parametrize(
    ("offer", "asked", "expected"),
    [
        (ON_DEMAND, None, ["1.20"]),
        (ON_DEMAND, "3", ["1.20"]),
        (UNKNOWN, "3", ["3"]),
        (SPOT, None, ["0.40"]),
        (SPOT, "0.90", ["0.90", "0.40"]),
        (WITH_LIST_PRICE, None, ["1.20", "0.40"]),
        (WITH_LIST_PRICE, "0.90", ["0.90", "0.40"]),
        (WITH_LIST_PRICE, "3", ["1.20", "0.40"]),
        (replace(WITH_LIST_PRICE, usd_per_hour=Decimal("1.50")), None, ["1.50"]),
        (UNKNOWN_SPOT, "0.90", ["0.90"]),
    ],
)
def test_a_spot_offer_may_cost_what_the_job_allows_and_no_more_than_on_demand(
    offer: Offer, asked: str | None, expected: list[str]
) -> None:
    """A stale spot price is no ceiling: the request would be refused as soon as the price has risen."""
    need = Need(max_price=Decimal(asked) if asked else None)
    assert [str(usd) for usd in ceilings(need, offer)] == expected


def test_a_cap_below_on_demand_does_not_forbid_spot() -> None:
    assert place(Need(), [WITH_LIST_PRICE], (), NOW, cap_usd_per_hour=Decimal("0.5")).best == WITH_LIST_PRICE
