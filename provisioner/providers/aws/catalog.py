"""What AWS sells, from files: instance types, the zones that have them, and prices, each row with its source and date.

A folder holds three tables of tab-separated values: `types.tsv`, `zones.tsv` and `prices.tsv`. The one in `snapshot`
ships with the program; an account's own answers, written in the same form, take its place (`Latest`). Only the rows of
types that could serve are taken apart, so that a question costs milliseconds however large the catalogue is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from pathlib import Path

from provisioner.domain.gpu import Gpu, nominal_gb, satisfies
from provisioner.domain.job import Need
from provisioner.domain.offer import Market, Offer

from .pools import quota_pool, region_pool, spot_pool
from .tables import HEADS, Table, zones_of

SHIPPED = Path(__file__).parent / "snapshot"
_MADE = 20_000  # offers that are kept once made, some 10 MB; arbitrary, every type with a GPU fits
_NOWHERE = "no source has it"
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
# Source: Amazon EC2 user guide, "Billing for interrupted Spot Instances": nothing, if EC2 does it in the first hour.
_UNBILLED_S = 3600.0
_MINIMUM_S = 60.0  # source: Amazon EC2 On-Demand pricing: per second, with a minimum of 60 s


@dataclass(frozen=True, slots=True)
class InstanceType:
    """One row of `types.tsv`. `local_disk_gb` is disk that goes with the machine, beside its root disk."""

    name: str
    cpus: int
    memory_gib: float
    arch: str
    gpu: Gpu | None
    local_disk_gb: float
    markets: tuple[Market, ...]


@dataclass(frozen=True, slots=True)
class Price:
    """`words` are its source and date."""

    usd_per_hour: Decimal
    words: str
    at: datetime


class Catalog:
    """The tables in `folder`. Raises: OSError, ValueError for a table that is not there or not one."""

    def __init__(self, folder: Path = SHIPPED) -> None:
        self._folder = folder
        self._made: dict[tuple[str, str, float], Sequence[Offer]] = {}
        self._count = 0
        self._zones: dict[str, Mapping[str, tuple[str, ...]]] = {}
        self._prices: dict[str, Mapping[tuple[str, str], Price]] = {}

    @cached_property
    def types(self) -> Mapping[str, InstanceType]:
        return {row[0]: _instance_type(row) for row in self._rows("types")}

    @cached_property
    def _zone_rows(self) -> Mapping[str, Sequence[str]]:
        return self._by_type("zones")

    @cached_property
    def _price_rows(self) -> Mapping[str, Sequence[str]]:
        return self._by_type("prices")

    def zones(self, instance_type: str) -> Mapping[str, tuple[str, ...]]:
        """Zone ids by region that have the type."""
        if instance_type not in self._zones:
            found: dict[str, tuple[str, ...]] = {}
            for line in self._zone_rows.get(instance_type, ()):
                found |= zones_of(line.split("\t")[1])
            self._zones[instance_type] = found
        return self._zones[instance_type]

    def prices(self, instance_type: str) -> Mapping[tuple[str, str], Price]:
        """By place (a region for on-demand, a zone id for spot) and market."""
        if instance_type not in self._prices:
            rows = (line.split("\t") for line in self._price_rows.get(instance_type, ()))
            self._prices[instance_type] = {
                (row[1], row[2]): Price(Decimal(row[3]), f"{row[4]}, {row[5]}", _at(row[5])) for row in rows
            }
        return self._prices[instance_type]

    @cached_property
    def regions(self) -> tuple[str, ...]:
        """Every region that has any type."""
        return tuple(sorted({region for name in self._zone_rows for region in self.zones(name)}))

    @cached_property
    def read_at(self) -> datetime:
        """When the newest of it was read."""
        dates = {line.rsplit("\t", 1)[1] for name in HEADS for line in self.lines(name)}
        return max((_at(date) for date in dates), default=_LONG_AGO)

    def offers(self, need: Need, *, disk_gib: float) -> Iterator[Offer]:
        """Offers of every type that could serve, and those that the request's own words name and are too small."""
        for kind in self.types.values():
            if _worth_a_word(kind, need):
                for region in need.regions or self.zones(kind.name):
                    yield from self._offers_of(kind, region, disk_gib)

    def _offers_of(self, kind: InstanceType, region: str, disk_gib: float) -> Sequence[Offer]:
        """Kept for the next question, up to a bound."""
        key = kind.name, region, disk_gib
        if key not in self._made:
            made = tuple(self._make(kind, region, disk_gib))
            self._count += len(made)
            if self._count > _MADE:
                self._made, self._count = {}, len(made)
            self._made[key] = made
        return self._made[key]

    def _make(self, kind: InstanceType, region: str, disk_gib: float) -> Iterator[Offer]:
        zones, prices = self.zones(kind.name).get(region, ()), self.prices(kind.name)
        on_demand = prices.get((region, Market.ON_DEMAND))
        for market in kind.markets if zones else ():
            pools: tuple[str, ...] = (region_pool(region), quota_pool(region, kind.name, market))
            if market is Market.SPOT:
                pools = (*pools, spot_pool(region))
            for zone in zones:
                price = prices.get((zone, market)) if market is Market.SPOT else on_demand
                yield _offer(kind, region, zone, market, disk_gib, price, on_demand, pools)

    def _by_type(self, name: Table) -> Mapping[str, Sequence[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for line in self.lines(name):
            found[line.partition("\t")[0]].append(line)
        return found

    def lines(self, name: Table) -> list[str]:
        """Every row of one table as it is written."""
        lines = (self._folder / f"{name}.tsv").read_text().splitlines()
        if not lines or "\t" not in lines[0]:
            raise ValueError(f"{self._folder / name}.tsv is not a table")
        return lines[1:]

    def _rows(self, name: Table) -> Iterator[list[str]]:
        return (line.split("\t") for line in self.lines(name))


def _offer(
    kind: InstanceType,
    region: str,
    zone: str,
    market: Market,
    disk_gib: float,
    price: Price | None,
    on_demand: Price | None,
    pools: tuple[str, ...],
) -> Offer:
    return Offer(
        provider="aws",
        region=region,
        zone=zone,
        instance_type=kind.name,
        market=market,
        usd_per_hour=price.usd_per_hour if price else None,
        price_source=price.words if price else _NOWHERE,
        scope=region,
        cpus=kind.cpus,
        memory_gib=kind.memory_gib,
        disk_gib=disk_gib,
        gpu=kind.gpu,
        arch=kind.arch,
        billed_minimum_s=_MINIMUM_S,
        unbilled_if_taken_s=_UNBILLED_S if market is Market.SPOT else 0.0,
        pools=pools,
        priced_at=price.at if price else None,
        on_demand_usd_per_hour=on_demand.usd_per_hour if on_demand and market is Market.SPOT else None,
    )


def _at(date: str) -> datetime:
    """Of a date, or a moment."""
    at = datetime.fromisoformat(date)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _instance_type(row: list[str]) -> InstanceType:
    name, cpus, memory_mib, arch, gpu, gpus, gpu_mib, _slice, disk_gb, markets, *_ = row
    return InstanceType(
        name=name,
        cpus=int(cpus),
        memory_gib=int(memory_mib) / 1024,
        arch=arch,
        gpu=Gpu(gpu, int(gpus), nominal_gb(gpu, float(gpu_mib))) if gpu else None,
        local_disk_gb=float(disk_gb),
        markets=tuple(Market(market) for market in markets.split(",")),
    )


def _worth_a_word(kind: InstanceType, need: Need) -> bool:
    """Whether it serves, or `why` should say what it lacks: its size, not that it is something else altogether."""
    if need.instance_type:
        return kind.name == need.instance_type
    if need.gpu is not None:
        return satisfies(kind.gpu, need.gpu) or (kind.gpu is not None and kind.gpu.name == need.gpu.name)
    return kind.gpu is None and kind.cpus >= need.cpus and kind.memory_gib >= need.memory_gib
