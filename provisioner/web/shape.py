"""Rows as JSON: the domain's dataclasses through pydantic, money as text, times as ISO 8601 in UTC."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any

from provisioner.domain import money
from provisioner.domain.money import Charge
from provisioner.domain.place import Ladder
from provisioner.domain.store import Records

_FEW = 20  # up to here each one's charges are asked for by themselves; arbitrary


@cache
def adapter(kind: Any) -> Any:
    """A pydantic TypeAdapter, built when it is first needed: together they would cost the start a tenth of a second."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def plain(row: Any, **more: Any) -> dict[str, Any]:
    """A dataclass as a JSON object, with further fields."""
    built: dict[str, Any] = adapter(row.__class__).dump_python(row, mode="json")
    return built | more


def plain_all(rows: Iterable[Any]) -> list[dict[str, Any]]:
    return [plain(row) for row in rows]


def rungs(ladder: Ladder, now: datetime) -> list[dict[str, Any]]:
    """Offers in their order. `age_s`: since the source of the price was read; null where there is no date."""
    return [
        {
            "offer": plain(rung.offer),
            "text": str(rung.offer),
            "refused": rung.refused,
            "priced_at": rung.offer.priced_at.isoformat() if rung.offer.priced_at else None,
            "age_s": round((now - rung.offer.priced_at).total_seconds()) if rung.offer.priced_at else None,
        }
        for rung in ladder.rungs
    ]


def costs(charges: Iterable[Charge], now: datetime) -> dict[str, Any]:
    """`cost_usd` is what is known of it, null when nothing is; `cost_unknown` that there is more."""
    lines = list(charges)
    usd, unknown = money.total(lines, now)
    nothing = bool(lines) and all(line.usd_per_hour is None for line in lines)
    return {"cost_usd": None if nothing else dollars(usd), "cost_unknown": unknown}


async def charges_by(records: Records, field: str, ids: Sequence[str], since: datetime) -> dict[str, list[Charge]]:
    """Charges of many jobs or instances by id (`field`: job_id or instance_id), none of them older than `since`."""
    if len(ids) <= _FEW:
        return {one: await records.charges(**{field: one}) for one in ids}  # type: ignore[arg-type]
    grouped: dict[str, list[Charge]] = {}
    for charge in await records.charges(since=since):
        grouped.setdefault(getattr(charge, field), []).append(charge)
    return grouped


def dollars(usd: Decimal) -> str:
    """At least cents, at most millionths."""
    whole, _, places = f"{usd:.6f}".partition(".")
    return f"{whole}.{places.rstrip('0').ljust(2, '0')}"
