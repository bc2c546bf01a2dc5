"""A catalogue from the account's own API: what every region offers now, and at what price.

Each region is asked four things: its types, which zones have them, spot prices by zone, on-demand prices. What cannot
be read keeps what was known of it, with its own source and date, and is named; a price that is not in a whole answer is
unknown from then on, whatever was known before.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar

from provisioner.domain.errors import ProviderError, Unreachable

from .account import Account
from .catalog import Catalog
from .tables import Table, type_row, zones_of, zones_text

# Source: AWS Price List API, "Endpoints": one of three regions answers for all.
_PRICES_AT = "us-east-1"
_LINUX = "Linux/UNIX"
_PRODUCTS = {
    "operatingSystem": "Linux",
    "preInstalledSw": "NA",
    "tenancy": "Shared",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
}
_TYPES, _ZONES, _SPOT, _ON_DEMAND = "types", "zones", "spot prices", "on-demand prices"
Rows = list[tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Answers:
    """What one region said; None where it did not, and why by the name of what was asked."""

    QUESTIONS: ClassVar[int] = 4

    region: str
    types: Sequence[Mapping[str, Any]] | None
    zones: Mapping[str, set[str]] | None
    spot: Mapping[tuple[str, str], Decimal] | None
    on_demand: Mapping[str, Decimal] | None
    failed: Mapping[str, str]


async def read(account: Account, region: str, now: datetime) -> Answers:
    """All four at once; the account's buckets pace them."""
    failed: dict[str, str] = {}

    async def tried(what: str, asked: Awaitable[Any]) -> Any:
        try:
            return await asked
        except ProviderError as error:
            failed[what] = error.line

    types, zones, spot, on_demand = await asyncio.gather(
        tried(_TYPES, account.pages(region, "describe_instance_types", "InstanceTypes", size=100)),
        tried(_ZONES, _zones(account, region)),
        tried(_SPOT, _spot(account, region, now)),
        tried(_ON_DEMAND, _on_demand(account, region)),
    )
    return Answers(region, types, zones, spot, on_demand, failed)


async def _zones(account: Account, region: str) -> Mapping[str, set[str]]:
    """Zone ids by type."""
    rows = await account.pages(
        region, "describe_instance_type_offerings", "InstanceTypeOfferings", LocationType="availability-zone-id"
    )
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        found[row["InstanceType"]].add(row["Location"])
    return found


async def _spot(account: Account, region: str, now: datetime) -> Mapping[tuple[str, str], Decimal]:
    """By type and zone id: the last change before now, which EC2 gives for a span that begins now."""
    rows = await account.pages(
        region, "describe_spot_price_history", "SpotPriceHistory", StartTime=now, ProductDescriptions=[_LINUX]
    )
    if any(not row.get("AvailabilityZoneId") for row in rows):
        raise Unreachable("EC2 gave spot prices without the ids of their zones")
    rows.sort(key=lambda row: row["Timestamp"])
    return {(row["InstanceType"], row["AvailabilityZoneId"]): Decimal(row["SpotPrice"]) for row in rows}


async def _on_demand(account: Account, region: str) -> Mapping[str, Decimal]:
    """By type, of Linux without licences on shared hardware."""
    fields = {"regionCode": region, **_PRODUCTS}
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in fields.items()]
    asked = {"service": "pricing", "ServiceCode": "AmazonEC2", "Filters": filters}
    products = await account.pages(_PRICES_AT, "get_products", "PriceList", size=100, **asked)
    found = {}
    for product in map(json.loads, map(str, products)):
        if usd := _hourly(product):
            found[product["product"]["attributes"]["instanceType"]] = usd
    return found


def _hourly(product: Mapping[str, Any]) -> Decimal | None:
    """Its one hourly price. What is listed at nothing is part of something else, and no offer."""
    terms = product["terms"].get("OnDemand", {}).values()
    rates = [rate for term in terms for rate in term["priceDimensions"].values() if rate["unit"] == "Hrs"]
    usd = Decimal(rates[0]["pricePerUnit"].get("USD", "0")) if rates else Decimal(0)
    return usd if usd > 0 else None


def merged(before: Catalog, answers: Iterable[Answers], now: datetime) -> Mapping[Table, Rows]:
    """The tables of a catalogue that says what `answers` say, and of everything else what `before` said."""
    date, answers = now.astimezone(UTC).isoformat(timespec="seconds"), list(answers)
    return {
        "types": _merged_types(before, answers, date),
        "zones": _merged_zones(before, answers, date),
        "prices": _merged_prices(before, answers, date),
    }


def _merged_types(before: Catalog, answers: Sequence[Answers], date: str) -> Rows:
    rows: dict[str, tuple[object, ...]] = {line.partition("\t")[0]: _cells(line) for line in before.lines("types")}
    for info in (info for one in answers for info in one.types or ()):
        if row := type_row(info, "DescribeInstanceTypes", date):
            rows[info["InstanceType"]] = row
    return list(rows.values())


def _merged_zones(before: Catalog, answers: Sequence[Answers], date: str) -> Rows:
    answered = {one.region for one in answers if one.zones is not None}
    rows: Rows = []
    for name, text, *sourced in map(_cells, before.lines("zones")):
        if kept := {region: ids for region, ids in zones_of(text).items() if region not in answered}:
            rows.append((name, zones_text(kept), *sourced))
    found: dict[str, dict[str, set[str]]] = defaultdict(dict)
    for one in answers:
        for name, ids in (one.zones or {}).items():
            found[name][one.region] = ids
    rows += [(name, zones_text(regions), "DescribeInstanceTypeOfferings", date) for name, regions in found.items()]
    return rows


def _merged_prices(before: Catalog, answers: Sequence[Answers], date: str) -> Rows:
    spot = {one.region for one in answers if one.spot is not None}
    on_demand = {one.region for one in answers if one.on_demand is not None}
    region_of = _region_of(before, answers)
    rows: Rows = []
    for cells in map(_cells, before.lines("prices")):
        _, place, market, *_ = cells
        answered = region_of.get(place, place) in spot if market == "spot" else place in on_demand
        if not answered:
            rows.append(cells)
    for one in answers:
        for (name, zone), usd in (one.spot or {}).items():
            rows.append((name, zone, "spot", _plain(usd), "DescribeSpotPriceHistory", date))
        for name, usd in (one.on_demand or {}).items():
            rows.append((name, one.region, "on-demand", _plain(usd), "Price List API", date))
    return rows


def _region_of(before: Catalog, answers: Iterable[Answers]) -> Mapping[str, str]:
    """By zone id."""
    found = {}
    for line in before.lines("zones"):
        for region, ids in zones_of(_cells(line)[1]).items():
            found.update(dict.fromkeys(ids, region))
    for one in answers:
        found.update(dict.fromkeys((zone for ids in (one.zones or {}).values() for zone in ids), one.region))
    return found


def _cells(line: str) -> tuple[str, ...]:
    return tuple(line.split("\t"))


def _plain(usd: Decimal) -> str:
    return f"{usd.normalize():f}"
