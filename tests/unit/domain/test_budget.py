"""Which period a moment is in, and how much of a charge."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from provisioner.domain.budget import Period, by_day
from provisioner.domain.money import Charge


def at(day: int, hour: float = 0, month: int = 1) -> datetime:
    return datetime(2026, month, day, int(hour), int(hour % 1 * 60), tzinfo=UTC)


@pytest.mark.parametrize(
    ("per", "now", "began", "ends"),
    [
        (Period.DAY, at(31, 13.5), at(31), at(1, month=2)),
        (Period.DAY, at(1), at(1), at(2)),
        (Period.MONTH, at(31, 23.5), at(1), at(1, month=2)),
        (Period.MONTH, at(1, month=2), at(1, month=2), at(1, month=3)),
        (Period.MONTH, at(5, month=12), at(1, month=12), datetime(2027, 1, 1, tzinfo=UTC)),
    ],
)
def test_periods_are_of_the_calendar(per: Period, now: datetime, began: datetime, ends: datetime) -> None:
    assert (per.began(now), per.ends(now)) == (began, ends)


def test_a_line_is_split_at_midnight() -> None:
    line = Charge(1, "i-1", "compute", at(30, 23.5), Decimal(2), "t", at(1, 1, month=2))
    unknown = Charge(2, "i-1", "drain", at(1, 1, month=2), None, "t", at(1, 2, month=2))
    days = {date(2026, 1, 30): Decimal(1), date(2026, 1, 31): Decimal(48), date(2026, 2, 1): Decimal(2 + 3)}
    assert by_day([line, unknown], Decimal(3)) == days
