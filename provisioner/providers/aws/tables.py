"""The three tables that a catalogue consists of: their columns, and how a row of EC2's own answers becomes one.

Tab-separated, a head first, source and date last in every row. Several rows of `zones.tsv` may be of one type: each
says some regions, from a source of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

Table = Literal["types", "zones", "prices"]
SOURCED = ("source", "date")
HEADS: Mapping[Table, tuple[str, ...]] = {
    "types": ("type", "cpus", "memory_mib", "arch", "gpu", "gpus", "gpu_mib", "slice", "disk_gb", "markets", *SOURCED),
    "zones": ("type", "zones", *SOURCED),
    "prices": ("type", "place", "market", "usd_per_hour", *SOURCED),
}
_ARCHES = ("x86_64", "arm64")
_MARKETS = ("spot", "on-demand")


def write(folder: Path, name: Table, rows: Iterable[tuple[object, ...]]) -> None:
    """The table `name`, sorted, so that the same rows are the same file."""
    lines = (HEADS[name], *sorted(tuple(map(str, row)) for row in rows))
    (folder / f"{name}.tsv").write_text("".join("\t".join(line) + "\n" for line in lines))


def type_row(one: Mapping[str, Any], source: str, date: str) -> tuple[object, ...] | None:
    """Of one InstanceTypeInfo of DescribeInstanceTypes; None where nothing of ours could run or be bought."""
    arch = next((arch for arch in _ARCHES if arch in one["ProcessorInfo"]["SupportedArchitectures"]), None)
    markets = [market for market in _MARKETS if market in one["SupportedUsageClasses"]]
    if arch is None or not markets:
        return None
    disk_gb = one.get("InstanceStorageInfo", {}).get("TotalSizeInGB", 0)
    cpus, memory_mib = one["VCpuInfo"]["DefaultVCpus"], one["MemoryInfo"]["SizeInMiB"]
    return one["InstanceType"], cpus, memory_mib, arch, *_gpu(one), disk_gb, ",".join(markets), source, date


def _gpu(one: Mapping[str, Any]) -> tuple[str, int, int, float]:
    """Name, count, MiB each and the share of a whole one; types with several kinds of GPU do not exist."""
    gpus = [gpu for gpu in one.get("GpuInfo", {}).get("Gpus", ()) if gpu["Manufacturer"] == "NVIDIA"]
    if not gpus:
        return "", 0, 0, 1.0
    (gpu,) = gpus
    return gpu["Name"], max(gpu["Count"], 1), gpu["MemoryInfo"]["SizeInMiB"], gpu.get("GpuPartitionSize", 1.0)


def zones_text(regions: Mapping[str, Iterable[str]]) -> str:
    """Zone ids by region, as `zones.tsv` has them."""
    return ";".join(f"{region}:{','.join(sorted(ids))}" for region, ids in sorted(regions.items()))


def zones_of(text: str) -> dict[str, tuple[str, ...]]:
    """The other way round."""
    parts = (one.partition(":") for one in text.split(";"))
    return {region: tuple(ids.split(",")) for region, _, ids in parts}
