"""Ghosts: records of runners under names of ours, offline, behind which there is no machine any more. Pure.

Whoever asks may know little: another controller's rows are not to be seen, and a record whose program is about to come
is offline, too. So one look never suffices, any sign of life of the machine keeps all of its records, and a record that
no row here knows has to be old, by the time that is in its name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from .forge import Runner, Site
from .ids import machine_of, made_at


@dataclass(frozen=True, slots=True)
class Rows:
    """What the database knows of runners: the names of `there` are not known to be gone, `ours` are known at all."""

    there: Collection[str] = ()
    ours: Collection[str] = ()


def ghosts(
    listed: Iterable[Runner], seen_before: Collection[str], rows: Rows, now: datetime, least_s: float
) -> list[Runner]:
    """Those of a complete listing that may go: offline in the look of before as well (`seen_before`), and known here to
    be gone, or of a machine that was made `least_s` ago and of which nothing else is to be seen."""
    every = list(listed)
    alive = {machine_of(runner.name) for runner in every if runner.online or runner.busy}
    found = []
    for runner in every:
        if runner.online or runner.busy or runner.name not in seen_before or runner.name in rows.there:
            continue
        made = made_at(runner.name)
        old = made is not None and now - made >= timedelta(seconds=least_s)
        if runner.name in rows.ours or (old and machine_of(runner.name) not in alive):
            found.append(runner)
    return found


@dataclass(frozen=True, slots=True)
class Haunted:
    """What a look at a site found, what of it was removed, and why the rest was not."""

    found: tuple[str, ...]
    removed: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


class Ghosts(Protocol):
    async def look(self, site: Site, least_s: float, seen: Collection[str] | None) -> Haunted:
        """Those that may go, if they were in the look of before (`seen`) as well; None: this is the first. Removes
        nothing. Raises: ForgeError."""
        ...

    async def remove(self, site: Site, least_s: float, seen: Collection[str]) -> Haunted:
        """The same, and they go. Raises: ForgeError."""
        ...
