"""The newest catalogue that there is: the one that ships with the program, or one that was refreshed since.

A refreshed one is a folder of its own, named after the moment at which it was read and put in place whole, so that
whoever reads an older one meanwhile goes on undisturbed. A newer program may ship newer prices than a refresh of last
year: those are then used.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import structlog

from provisioner.domain.job import Need
from provisioner.domain.offer import Offer

from .catalog import SHIPPED, Catalog
from .tables import Table, write

_log = structlog.get_logger()
_STAMP = "%Y%m%dT%H%M%S.%fZ"
_KEPT = 2  # the newest, and the one before for those who are still reading it


class Latest:
    """`kept` is the folder of refreshed catalogues; it need not be there. Answers like the `Catalog` it finds."""

    def __init__(self, kept: Path, shipped: Path = SHIPPED) -> None:
        self._kept = kept
        self._shipped = Catalog(shipped)
        self._found: tuple[str, Catalog] | None = None

    @property
    def catalog(self) -> Catalog:
        """A look into the folder each time: somebody else may have refreshed it."""
        for stamp in reversed(self._stamps()):
            if self._found is None or self._found[0] != stamp:
                if not (catalog := _usable(self._kept / stamp)):
                    continue
                self._found = stamp, catalog
            newer = _moment(stamp) >= self._shipped.read_at
            return self._found[1] if newer else self._shipped
        return self._shipped

    @property
    def regions(self) -> tuple[str, ...]:
        return self.catalog.regions

    def offers(self, need: Need, *, disk_gib: float) -> Iterator[Offer]:
        return self.catalog.offers(need, disk_gib=disk_gib)

    def replace(self, tables: Mapping[Table, list[tuple[object, ...]]], at: datetime) -> Path:
        """Put a catalogue in place that was read at `at`. Raises: OSError."""
        target = self._kept / at.astimezone(UTC).strftime(_STAMP)
        part = target.with_name(target.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True, mode=0o700)
        for name, rows in tables.items():
            write(part, name, rows)
        part.rename(target)
        for old in self._stamps()[:-_KEPT]:
            shutil.rmtree(self._kept / old, ignore_errors=True)
        return target

    def _stamps(self) -> list[str]:
        """Oldest first."""
        try:
            return sorted(one.name for one in self._kept.iterdir() if one.name.endswith("Z"))
        except FileNotFoundError:
            return []


def _usable(folder: Path) -> Catalog | None:
    """Not one that was damaged since it was put in place."""
    catalog = Catalog(folder)
    try:
        return catalog if catalog.read_at and _moment(folder.name) else None
    except (OSError, ValueError) as error:
        _log.warning("catalogue.unusable", folder=str(folder), error=str(error))
        return None


def _moment(stamp: str) -> datetime:
    return datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
