"""Write the catalogue that ships with the program: `python -m tests.house.aws_catalog --prices FILE`.

Instance types and the zones that have them come from the answers of AWS's own API that moto ships; prices from a CSV
with the columns `instance_type, on_demand_usd_per_hour, spot_usd_per_hour, region, zone_id`. Nothing is typed in here:
a type, zone or price that its source lacks is absent. Without `--prices` the prices that are there stay.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib.metadata
import json
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import moto

TARGET = Path(__file__).parents[2] / "provisioner/providers/aws/snapshot"
_MOTO = Path(moto.__file__).parent / "ec2/resources"
_ARCHES = ("x86_64", "arm64")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prices", type=Path)
    parser.add_argument("--prices-source", help="where the prices were read, and by whom they were published")
    parser.add_argument("--prices-date", help="when they were read: YYYY-MM-DD")
    parser.add_argument("--date", help="when moto's copy was read: YYYY-MM-DD", required=True)
    asked = parser.parse_args()
    write("types.tsv", types(asked.date))
    write("zones.tsv", zones(asked.date))
    if asked.prices:
        if not (asked.prices_source and asked.prices_date):
            parser.error("--prices needs --prices-source and --prices-date")
        write("prices.tsv", prices(asked.prices, asked.prices_source, asked.prices_date))


def write(name: str, rows: Iterable[tuple[object, ...]]) -> None:
    text = "".join("\t".join(map(str, row)) + "\n" for row in rows)
    (TARGET / name).write_text(text)


def moto_source() -> str:
    return f"DescribeInstanceTypes, as in moto {importlib.metadata.version('moto')}"


def types(date: str) -> Iterable[tuple[object, ...]]:
    """One row a type: its size, its GPU, what it can be bought as."""
    source = moto_source()
    yield (
        "type",
        "cpus",
        "memory_mib",
        "arch",
        "gpu",
        "gpus",
        "gpu_mib",
        "slice",
        "disk_gb",
        "markets",
        "source",
        "date",
    )
    for name, one in sorted(_read("instance_types.json").items()):
        arch = next((arch for arch in _ARCHES if arch in one["ProcessorInfo"]["SupportedArchitectures"]), None)
        markets = [market for market in ("spot", "on-demand") if market in one["SupportedUsageClasses"]]
        if arch is None or not markets:
            continue
        gpu, count, mib, part = _gpu(one)
        disk_gb = one.get("InstanceStorageInfo", {}).get("TotalSizeInGB", 0)
        cpus, memory_mib = one["VCpuInfo"]["DefaultVCpus"], one["MemoryInfo"]["SizeInMiB"]
        yield name, cpus, memory_mib, arch, gpu, count, mib, part, disk_gb, ",".join(markets), source, date


def _gpu(one: dict[str, Any]) -> tuple[str, int, int, float]:
    """Name, count, MiB each and the share of a whole one; types with several kinds of GPU do not exist."""
    gpus = [gpu for gpu in one.get("GpuInfo", {}).get("Gpus", ()) if gpu["Manufacturer"] == "NVIDIA"]
    if not gpus:
        return "", 0, 0, 1.0
    (gpu,) = gpus
    return gpu["Name"], max(gpu["Count"], 1), gpu["MemoryInfo"]["SizeInMiB"], gpu.get("GpuPartitionSize", 1.0)


def zones(date: str) -> Iterable[tuple[object, ...]]:
    """One row a type: the zone ids that have it, by region."""
    source = f"DescribeInstanceTypeOfferings, as in moto {importlib.metadata.version('moto')}"
    yield "type", "zones", "source", "date"
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for file in sorted((_MOTO / "instance_type_offerings/availability-zone-id").iterdir()):
        region = file.name.split(".")[0]
        for offering in _read(f"instance_type_offerings/availability-zone-id/{region}.json"):
            found[offering["InstanceType"]][region].add(offering["Location"])
    for name, regions in sorted(found.items()):
        places = (f"{region}:{','.join(sorted(ids))}" for region, ids in sorted(regions.items()))
        yield name, ";".join(places), source, date


def prices(file: Path, source: str, date: str) -> Iterable[tuple[object, ...]]:
    """One row a type and region for on-demand, one a type and zone for spot. Raises: ValueError if two rows differ."""
    yield "type", "place", "market", "usd_per_hour", "source", "date"
    found: dict[tuple[str, str, str], Decimal] = {}
    with file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            for place, market, text in (
                (row["region"], "on-demand", row["on_demand_usd_per_hour"]),
                (row["zone_id"], "spot", row["spot_usd_per_hour"]),
            ):
                key = row["instance_type"], place, market
                if text and found.setdefault(key, Decimal(text)) != Decimal(text):
                    raise ValueError(f"{file}: two prices for {' '.join(key)}")
    for (name, place, market), usd in sorted(found.items()):
        yield name, place, market, usd.normalize(), source, date


def _read(name: str) -> Any:
    path = _MOTO / name
    return (
        json.loads(path.read_text()) if path.exists() else json.loads(gzip.decompress(Path(f"{path}.gz").read_bytes()))
    )


if __name__ == "__main__":
    main()
