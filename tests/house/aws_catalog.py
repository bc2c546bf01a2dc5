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

from provisioner.providers.aws.tables import type_row, write, zones_text

TARGET = Path(__file__).parents[2] / "provisioner/providers/aws/snapshot"
_MOTO = Path(moto.__file__).parent / "ec2/resources"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prices", type=Path)
    parser.add_argument("--prices-source", help="where the prices were read, and by whom they were published")
    parser.add_argument("--prices-date", help="when they were read: YYYY-MM-DD")
    parser.add_argument("--date", help="when moto's copy was read: YYYY-MM-DD", required=True)
    asked = parser.parse_args()
    write(TARGET, "types", types(asked.date))
    write(TARGET, "zones", zones(asked.date))
    if asked.prices:
        if not (asked.prices_source and asked.prices_date):
            parser.error("--prices needs --prices-source and --prices-date")
        write(TARGET, "prices", prices(asked.prices, asked.prices_source, asked.prices_date))


def moto_source() -> str:
    return f"DescribeInstanceTypes, as in moto {importlib.metadata.version('moto')}"


def types(date: str) -> Iterable[tuple[object, ...]]:
    """One row a type: its size, its GPU, what it can be bought as."""
    source = moto_source()
    rows = (type_row(one, source, date) for one in _read("instance_types.json").values())
    yield from (row for row in rows if row)


def zones(date: str) -> Iterable[tuple[object, ...]]:
    """One row a type: the zone ids that have it, by region."""
    source = f"DescribeInstanceTypeOfferings, as in moto {importlib.metadata.version('moto')}"
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for file in sorted((_MOTO / "instance_type_offerings/availability-zone-id").iterdir()):
        region = file.name.split(".")[0]
        for offering in _read(f"instance_type_offerings/availability-zone-id/{region}.json"):
            found[offering["InstanceType"]][region].add(offering["Location"])
    for name, regions in sorted(found.items()):
        yield name, zones_text(regions), source, date


def prices(file: Path, source: str, date: str) -> Iterable[tuple[object, ...]]:
    """One row a type and region for on-demand, one a type and zone for spot. Raises: ValueError if two rows differ."""
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
