"""What was found in the files of one job or folder, as the sections of a report want it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provisioner.domain.metrics import Source


@dataclass(frozen=True, slots=True)
class Failed:
    """A test that failed or broke: `kind` is failure or error."""

    name: str
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Suite:
    """One JUnit file. `time_s` is what its suites say they took."""

    name: str
    tests: int = 0
    failures: int = 0
    errors: int = 0
    skipped: int = 0
    time_s: float = 0.0
    failed: tuple[Failed, ...] = ()


@dataclass(frozen=True, slots=True)
class Series:
    """Points (x, y) of one metric, by x. `x_name` is what x counts: step, epoch, row."""

    name: str
    x_name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Picture:
    """An image's bytes in a file. `name` is how it was found."""

    name: str
    path: Path


@dataclass
class Found:
    """`label` tells one job from another in a report of several; `record` and `readings` are the controller's.
    `notes` say what was there and could not be used."""

    label: str = ""
    metrics: list[Source] = field(default_factory=list)
    base: list[Source] | None = None
    suites: list[Suite] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    record: Mapping[str, Any] | None = None
    readings: Sequence[Mapping[str, Any]] = ()
    notes: list[str] = field(default_factory=list)
