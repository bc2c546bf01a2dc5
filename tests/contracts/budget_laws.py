"""The law of the Store port on budgets. Both databases inherit it."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from provisioner.domain.budget import Budget, Period
from provisioner.domain.errors import OverBudget
from provisioner.domain.job import CiOrigin, Instance, InstancePhase, Reason
from provisioner.domain.money import ADJUSTED
from provisioner.domain.store import Event, Store

from .store_laws import instance, offer

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
DAY, MONTH = Budget(Decimal(10), Period.DAY), Budget(Decimal(10), Period.MONTH)


def hours(count: float) -> datetime:
    return NOON + timedelta(hours=count)


async def plan(
    store: Store, key: str, owner: str = "ci.a", at: float = 0, budget: Budget | None = DAY, **changes: Any
) -> Instance:
    """One of $1 an hour at $2 at most, for two hours and no more than one beyond: at most $6."""
    times = {"created_at": hours(at), "phase_at": hours(at), "max_lifetime_s": 7200.0}
    row = dataclasses.replace(instance(key), owner=owner, **{**times, **changes})
    caps: Any = {"max_instances": 99, "max_usd_per_hour": Decimal(999), "reserve_usd_per_hour": Decimal(2)}
    origin = None if budget is None else CiOrigin("", "", "", "ci.", 99, Decimal(999), budget)
    return await store.instances.plan(row, **caps, origin=origin, overtime_s=3600.0)


async def launched(store: Store, one: Instance, at: float) -> Instance:
    one = await store.instances.advance(one, InstancePhase.LAUNCHING, Reason(), hours(at))
    return await store.instances.update(one, launched_at=hours(at))


async def ended(store: Store, one: Instance, at: float) -> None:
    one = await store.instances.advance(one, InstancePhase.STOPPING, Reason(), hours(at))
    await store.instances.advance(one, InstancePhase.GONE, Reason(), hours(at))


class BudgetLaws:
    async def test_s6_what_lives_counts_as_its_whole_life_and_what_is_gone_as_it_cost(self, store: Store) -> None:
        for n, owner in enumerate(("ann", "ci", "CI.a", "cix.a")):  # they are not of those that the budget is for
            other = await launched(store, await plan(store, f"i-9{n}", owner, budget=None), 0)
            if n % 2:
                await ended(store, other, 1)
        one = await launched(store, await plan(store, "i-1"), 0)
        said = (
            r"\$0\.00 is spent and \$6\.00 reserved of CI runs \(ci\.\*\); \$6\.00 more would pass "
            r"the budget of \$10\.00 a day, and the next day begins on 2026-02-01 at 00:00 UTC"
        )
        with pytest.raises(OverBudget, match=said):
            await plan(store, "i-2", "ci.b", at=1)
        await ended(store, one, 2.5)
        two = await plan(store, "i-2", "ci.b#j-2", at=3)
        with pytest.raises(OverBudget, match=r"\$2\.50 is spent and \$6\.00 reserved"):
            await plan(store, "i-3", at=3)
        await ended(store, await launched(store, two, 3), 5)
        with pytest.raises(OverBudget, match=r"\$4\.50 is spent and \$0\.00 reserved"):
            await plan(store, "i-3", at=5)

    async def test_s6_a_budget_begins_anew_with_its_period(self, store: Store) -> None:
        one = await launched(store, await plan(store, "i-1", at=9), 9)
        await launched(store, await plan(store, "i-2", at=11, budget=None), 11)
        await ended(store, one, 13)
        for budget, ends in ((DAY, "day begins on 2026-02-02"), (MONTH, "month begins on 2026-03-01")):
            with pytest.raises(OverBudget, match=rf"\$1\.00 is spent and \$4\.00 reserved .* the next {ends} at 00:00"):
                await plan(store, "i-3", at=13, budget=budget)
        await plan(store, "i-3", at=36)

    async def test_s6_what_was_not_billed_is_not_spent_and_an_unknown_price_is_what_was_reserved(
        self, store: Store
    ) -> None:
        one = await launched(store, await plan(store, "i-1"), 0)
        await store.records.record(Event(ADJUSTED, hours(3), instance_id=one.id, data={"usd": "-2.5"}))
        await ended(store, one, 3)
        await ended(store, await launched(store, await plan(store, "i-2", offer=offer(None), at=3), 3), 5)
        with pytest.raises(OverBudget, match=r"\$4\.50 is spent and \$0\.00 reserved"):
            await plan(store, "i-3", at=5)

    async def test_s6_what_lives_too_long_counts_for_as_long_as_it_does(self, store: Store) -> None:
        with pytest.raises(
            OverBudget, match=r"one machine may cost \$12\.00 by the end of its life, and the budget of"
        ):
            await plan(store, "i-1", max_lifetime_s=5 * 3600.0)
        await launched(store, await plan(store, "i-1"), 0)
        with pytest.raises(OverBudget, match=r"\$0\.00 is spent and \$8\.00 reserved"):
            await plan(store, "i-2", at=4)

    async def test_s6_a_budget_holds_however_many_plan_and_end_at_once(self, store: Store) -> None:
        free = [await plan(store, f"i-{n}", f"ci.{n % 2}", budget=None) for n in range(8)]
        ending = [ended(store, await launched(store, one, 0), 0.5) for one in free]
        await asyncio.gather(*ending)  # $4.00
        plans = [plan(store, f"i-1{n}", at=1) for n in range(10)]
        results = await asyncio.gather(*plans, return_exceptions=True)
        assert sum(isinstance(result, Instance) for result in results) == 1
        said = {result.message[:14] for result in results if isinstance(result, OverBudget)}
        assert said == {"$4.00 is spent"}
