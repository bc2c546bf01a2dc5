"""GPUs: what people call them, how large they are, and how a request for one is written.

`parse_gpu` turns ``A10G:4``, ``A100-80GB``, ``>=24GB`` or ``compute>=8.0`` into a `GpuNeed`. GB is the vendor's
nominal size; the health gate accepts 90 % of it, because drivers reserve some.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from .errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class GpuModel:
    """One model as its vendor sells it. `memory_gb` is nominal; `compute` is the CUDA compute capability."""

    name: str
    memory_gb: tuple[int, ...]
    compute: float
    aliases: tuple[str, ...] = ()


# Source: NVIDIA data sheets and the "CUDA GPUs" compute capability table, as of 2026-11.
MODELS: tuple[GpuModel, ...] = (
    GpuModel("K80", (12,), 3.7, ("tesla-k80",)),
    GpuModel("M60", (8,), 5.2, ("tesla-m60",)),
    GpuModel("P4", (8,), 6.1, ("tesla-p4",)),
    GpuModel("P100", (16,), 6.0, ("tesla-p100",)),
    GpuModel("V100", (16, 32), 7.0, ("tesla-v100",)),
    GpuModel("T4", (16,), 7.5, ("tesla-t4",)),
    GpuModel("T4G", (16,), 7.5),
    GpuModel("A10", (24,), 8.6),
    GpuModel("A10G", (24,), 8.6),
    GpuModel("A100", (40, 80), 8.0, ("a100-sxm4",)),
    GpuModel("L4", (24,), 8.9),
    GpuModel("L40S", (48,), 8.9),
    GpuModel("H100", (80,), 9.0),
    GpuModel("H200", (141,), 9.0),
    GpuModel("B200", (180,), 10.0),
    GpuModel("B300", (288,), 10.3),
    GpuModel("RTX-PRO-4500", (32,), 12.0, ("rtx pro 4500",)),
    GpuModel("RTX-PRO-6000", (96,), 12.0, ("rtx pro server 6000",)),
)

_BY_NAME = {alias: model for model in MODELS for alias in (model.name.lower(), *model.aliases)}
_NAMED = re.compile(r"^(?P<name>[A-Za-z][A-Za-z0-9_.-]*?)(?:-(?P<gb>\d+)GB)?(?::(?P<count>\d+))?$", re.IGNORECASE)
_PROPERTY = re.compile(r"^(?:>=(?P<gb>\d+)GB|compute>=(?P<compute>\d+(?:\.\d+)?))(?::(?P<count>\d+))?$", re.IGNORECASE)
_WHOLE = 0.88  # of the nominal memory, that drivers show at least; less is a slice of one


@dataclass(frozen=True, slots=True)
class Gpu:
    """What a machine has: `count` devices of one model, `memory_gb` each."""

    name: str
    count: int
    memory_gb: float


@dataclass(frozen=True, slots=True)
class GpuNeed:
    """What a job asks for: a model by name, or any that has the properties; `count` devices."""

    count: int = 1
    name: str | None = None
    min_memory_gb: float | None = None
    min_compute: float | None = None

    def __str__(self) -> str:
        size = f"{self.min_memory_gb:g}GB" if self.min_memory_gb is not None else ""
        if self.name:
            what = f"{self.name}-{size}" if size else self.name
        else:
            what = f">={size}" if size else f"compute>={self.min_compute}"
        return f"{what}:{self.count}" if self.count != 1 else what


def known(name: str) -> GpuModel | None:
    """The model behind a name or alias, upper or lower case; None when nobody here has heard of it."""
    return _BY_NAME.get(name.lower())


def recognise(shown: str) -> str:
    """The model behind the name that a driver or a cloud shows (`NVIDIA A100-SXM4-80GB`); else its first word."""
    words = re.split(r"[^a-z0-9]+", shown.lower().removeprefix("nvidia ").removeprefix("tesla "))
    for model in sorted(MODELS, key=lambda model: -len(model.name)):
        if all(part in words for part in model.name.lower().split("-")):
            return model.name
    return shown.removeprefix("NVIDIA ").split(" ")[0] or shown


def nominal_gb(name: str, mib: float) -> float:
    """What its vendor calls the memory of a GPU that shows `mib` MiB; of a slice or an unknown model, whole GB."""
    shown_gb = mib * 2**20 / 1e9
    model = known(name)
    sizes = [gb for gb in model.memory_gb if _WHOLE * gb <= shown_gb <= gb * 2**30 / 1e9 * 1.01] if model else []
    return float(max(sizes, default=round(shown_gb)))


def parse_gpu(text: str) -> GpuNeed:
    """`NAME[-24GB][:COUNT]`, `>=24GB[:COUNT]` or `compute>=8.0[:COUNT]`.

    Raises: InvalidRequest naming the nearest model when the name is unknown.
    """
    stripped = text.strip().replace(" ", "")
    if match := _PROPERTY.match(stripped):
        count = _count(match["count"], text)
        if match["gb"]:
            return GpuNeed(count=count, min_memory_gb=float(match["gb"]))
        return GpuNeed(count=count, min_compute=float(match["compute"]))
    match = _NAMED.match(stripped)
    if not match:
        raise InvalidRequest(f"cannot read GPU {text!r}", hint="write NAME[:COUNT], '>=24GB' or 'compute>=8.0'")
    model = known(match["name"])
    if model is None:
        near = difflib.get_close_matches(match["name"].lower(), _BY_NAME, n=1)
        suggestion = f"did you mean {_BY_NAME[near[0]].name}? " if near else ""
        names = ", ".join(m.name for m in MODELS)
        raise InvalidRequest(f"unknown GPU {match['name']!r}", hint=f"{suggestion}known: {names}")
    gb = int(match["gb"]) if match["gb"] else None
    if gb is not None and gb not in model.memory_gb:
        sizes = " or ".join(f"{model.name}-{size}GB" for size in model.memory_gb)
        raise InvalidRequest(f"there is no {model.name} with {gb} GB", hint=f"ask for {sizes}")
    return GpuNeed(count=_count(match["count"], text), name=model.name, min_memory_gb=gb)


def satisfies(gpu: Gpu | None, need: GpuNeed) -> bool:
    """Whether a machine with `gpu` gives what `need` asks for."""
    if gpu is None or gpu.count < need.count:
        return False
    model = known(gpu.name)
    if need.name is not None and need.name != (model.name if model else gpu.name):
        return False
    if need.name is not None and model is not None and gpu.memory_gb < _WHOLE * min(model.memory_gb):
        return False  # a slice of one is not one
    if need.min_memory_gb is not None and gpu.memory_gb < need.min_memory_gb:
        return False
    return need.min_compute is None or (model is not None and model.compute >= need.min_compute)


def _count(digits: str | None, text: str) -> int:
    count = int(digits) if digits else 1
    if not 1 <= count <= 64:
        raise InvalidRequest(f"GPU count out of range in {text!r}", hint="ask for 1 to 64")
    return count


def from_driver(answer: str) -> Gpu | None:
    """`NVIDIA A10G, 23028` a line (MiB) -> the GPU as it is offered; the least memory counts when they differ."""
    rows = [line.rsplit(",", 1) for line in answer.strip().splitlines() if "," in line]
    if not rows:
        return None
    name = recognise(rows[0][0].strip())
    return Gpu(name=name, count=len(rows), memory_gb=nominal_gb(name, min(float(mib) for _, mib in rows)))
