"""A budget: what may be spent in a day or a month of UTC, and what a machine may cost by the end of its life. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from .errors import OverBudget
from .money import Charge, cost, show


class Period(StrEnum):
    DAY = "day"
    MONTH = "month"

    def began(self, now: datetime) -> datetime:
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight if self is Period.DAY else midnight.replace(day=1)

    def ends(self, now: datetime) -> datetime:
        began = self.began(now)
        return began + timedelta(days=1) if self is Period.DAY else (began + timedelta(days=31)).replace(day=1)

    def label(self, day: date) -> str:
        """`2026-01-31`, or `2026-01` for its month."""
        return day.isoformat() if self is Period.DAY else f"{day:%Y-%m}"


@dataclass(frozen=True, slots=True)
class Budget:
    """`usd` a period; what is left of it at the end is not kept for the next."""

    usd: Decimal
    per: Period

    def check(self, spent: Decimal, reserved: Decimal, more: Decimal, now: datetime, whose: str = "") -> None:
        """`spent` since the period began by machines that are gone; `reserved`: the most that the others can have cost
        by their end; `more`: the most that another one would. Raises: OverBudget."""
        self.check_alone(more)
        if spent + reserved + more > self.usd:
            room = f"{show(spent)} is spent and {show(reserved)} reserved{whose}; {show(more)} more would pass {self}"
            raise OverBudget(f"{room}, and the next {self.per} begins on {self.per.ends(now):%Y-%m-%d at %H:%M} UTC")

    def check_alone(self, most: Decimal) -> None:
        """What waiting would not help against. Raises: OverBudget."""
        if most > self.usd:
            what = f"one machine may cost {show(most)} by the end of its life, and {self} is less"
            raise OverBudget(what, hint="ask for a shorter --max-lifetime or a lower --max-price")

    def __str__(self) -> str:
        return f"the budget of {show(self.usd)} a {self.per}"


def bound(usd_per_hour: Decimal, seconds: float) -> Decimal:
    """The most that so long costs, in USD."""
    return usd_per_hour * Decimal(str(seconds)) / 3600


def by_day(charges: Iterable[Charge], unknown_as: Decimal) -> dict[date, Decimal]:
    """What closed lines come to on each day of UTC; a line whose price is unknown counts `unknown_as` USD an hour."""
    days: defaultdict[date, Decimal] = defaultdict(Decimal)
    for line in charges:
        usd = unknown_as if line.usd_per_hour is None else line.usd_per_hour
        began, closed_at = line.opened_at, line.closed_at or line.opened_at
        while began < closed_at:
            until = min(Period.DAY.ends(began), closed_at)
            part = Charge(line.id, line.instance_id, line.phase, began, usd, line.source, until)
            days[began.date()] += cost(part, until) or Decimal(0)
            began = until
    return dict(days)
