"""Money: Decimal USD, never float. Charges are spans of one instance's time, each at one price for one use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal

# The event that takes an amount off an instance's charges, or adds one: `usd` in its data, negative when it was not
# billed after all. It is kept for as long as the charges are.
ADJUSTED = "charge.adjusted"
_INSIDE = Decimal("0.0000000001")


@dataclass(frozen=True, slots=True)
class Charge:
    """One ledger line. `closed_at` None means still running; `usd_per_hour` None means unknown, never zero."""

    id: int
    instance_id: str
    phase: str
    opened_at: datetime
    usd_per_hour: Decimal | None
    source: str
    closed_at: datetime | None = None
    job_id: str = ""
    attempt: int = 0


def cost(charge: Charge, now: datetime) -> Decimal | None:
    """USD of one line up to its end, or up to `now` while it is open; None when the price is unknown."""
    if charge.usd_per_hour is None:
        return None
    seconds = Decimal(str(max(0.0, ((charge.closed_at or now) - charge.opened_at).total_seconds())))
    return (charge.usd_per_hour * seconds / 3600).quantize(_INSIDE, ROUND_HALF_EVEN)


def total(charges: Iterable[Charge], now: datetime) -> tuple[Decimal, bool]:
    """The sum of what is known, and whether any line's price is unknown."""
    known = [cost(charge, now) for charge in charges]
    return sum((c for c in known if c is not None), Decimal(0)), any(c is None for c in known)


def show(usd: Decimal) -> str:
    """`$1.23`, or four places below a cent."""
    return f"${usd:.4f}" if Decimal(0) < usd < Decimal("0.01") else f"${usd:.2f}"
