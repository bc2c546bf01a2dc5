"""What AWS sells, from files: instance types, the zones that have them, and prices, each row with its source and date.

A folder holds three tables of tab-separated values: `types.tsv`, `zones.tsv` and `prices.tsv`. The one in `snapshot`
ships with the program; an account's own answers, written in the same form, take its place. Only the rows of types that
could serve are taken apart, so that a question costs milliseconds however large the catalogue is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path

from provisioner.domain.gpu import Gpu, nominal_gb, satisfies
from provisioner.domain.job import Need
from provisioner.domain.offer import Market, Offer

SHIPPED = Path(__file__).parent / "snapshot"
_NOWHERE = "no source has it"
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
    usd_per_hour: Decimal
    source: str
    date: str

    @property
    def words(self) -> str:
        return f"{self.source}, {self.date}"


class Catalog:
    """The tables in `folder`. Raises: OSError, ValueError for a table that is not there or not one."""

    def __init__(self, folder: Path = SHIPPED) -> None:
        self._folder = folder

    @cached_property
    def types(self) -> Mapping[str, InstanceType]:
        return {row[0]: _instance_type(row) for row in self._rows("types")}

    @cached_property
    def _zone_rows(self) -> Mapping[str, str]:
        return {line.split("\t", 1)[0]: line for line in self._lines("zones")}

    @cached_property
    def _prices(self) -> Mapping[tuple[str, str, str], Price]:
        return {(row[0], row[1], row[2]): Price(Decimal(row[3]), row[4], row[5]) for row in self._rows("prices")}

    def zones(self, instance_type: str) -> Mapping[str, tuple[str, ...]]:
        """Zone ids by region that have the type."""
        line = self._zone_rows.get(instance_type, "")
        regions = (one.partition(":") for one in line.split("\t")[1].split(";")) if line else ()
        return {region: tuple(ids.split(",")) for region, _, ids in regions}

    @cached_property
    def regions(self) -> tuple[str, ...]:
        """Every region that has any type."""
        return tuple(sorted({region for name in self._zone_rows for region in self.zones(name)}))

    @cached_property
    def dated(self) -> str:
        """The oldest date in it: what it says may have changed since."""
        dates = [line.rsplit("\t", 1)[1] for name in ("types", "zones", "prices") for line in self._lines(name)]
        return min(dates, default="")

    def offers(self, need: Need, *, disk_gib: float) -> Iterator[Offer]:
        """Offers of every type that could serve, and those that the request's own words name and are too small."""
        for kind in self.types.values():
            if _worth_a_word(kind, need):
                yield from self._offers_of(kind, need, disk_gib)

    def _offers_of(self, kind: InstanceType, need: Need, disk_gib: float) -> Iterator[Offer]:
        for region, zones in self.zones(kind.name).items():
            if need.regions and region not in need.regions:
                continue
            for zone in zones:
                for market in kind.markets:
                    yield self._offer(kind, region, zone, market, disk_gib)

    def _offer(self, kind: InstanceType, region: str, zone: str, market: Market, disk_gib: float) -> Offer:
        place = zone if market is Market.SPOT else region
        price = self._prices.get((kind.name, place, market))
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
        )

    def _lines(self, name: str) -> list[str]:
        lines = (self._folder / f"{name}.tsv").read_text().splitlines()
        if not lines or "\t" not in lines[0]:
            raise ValueError(f"{self._folder / name}.tsv is not a table")
        return lines[1:]

    def _rows(self, name: str) -> Iterator[list[str]]:
        return (line.split("\t") for line in self._lines(name))


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
