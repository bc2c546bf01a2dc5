"""Metrics: trees of numbers as jobs leave them, flattened to dotted names, found by name, and compared with a base.

Files come in parsed; nothing is read here. `gates` judges what is found, `report` shows it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .errors import InvalidRequest, NotFound

MOST = 10_000  # numbers of one file; arbitrary
_NAMED = 12  # names that an error lists; arbitrary


@dataclass(frozen=True, slots=True)
class Source:
    """The numbers of one file: `name` is how the user named it, `values` by dotted path."""

    name: str
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Change:
    """One metric here and in the base. None: not there."""

    name: str
    now: float | None
    base: float | None

    @property
    def by(self) -> float | None:
        return None if self.now is None or self.base is None else self.now - self.base

    @property
    def percent(self) -> float | None:
        """Of the base; None where that is zero or no number."""
        if self.by is None or not self.base or not math.isfinite(self.base):
            return None
        return 100 * self.by / abs(self.base)


def flatten(tree: object, what: str = "metrics") -> dict[str, float]:
    """Numbers of nested objects by dotted path, in their order; lists, texts and nulls are no metrics.

    Raises: InvalidRequest when it is no object, or holds more than MOST numbers.
    """
    if not isinstance(tree, Mapping):
        raise InvalidRequest(f"{what} holds {_kind(tree)}, not an object", hint='write {"name": number}')
    found: dict[str, float] = {}
    waiting: list[tuple[str, object]] = [("", tree)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, Mapping):
            start = f"{path}." if path else ""
            waiting += [(f"{start}{key}", below) for key, below in reversed(list(value.items()))]
        elif isinstance(value, int | float):
            found.setdefault(path, as_float(value))
            if len(found) > MOST:
                raise InvalidRequest(f"{what} holds more than {MOST} numbers", hint="keep series in plots")
    return found


def as_float(value: float) -> float:
    """Infinite where a whole number is too large for a float."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _kind(value: object) -> str:
    kinds = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "a truth value"}
    return kinds.get(type(value), "nothing")


def find(sources: Sequence[Source], name: str) -> float:
    """The metric called so: a dotted path, or file:path. Raises: NotFound naming what there is, InvalidRequest when
    several files have it."""
    having = [source for source in sources if name in source.values]
    if len(having) > 1:
        ways = " or ".join(f'"{source.name}:{name}"' for source in having[:4])
        raise InvalidRequest(f"several files have a metric {name!r}", hint=f"write {ways}")
    if having:
        return having[0].values[name]
    for source in sources:
        for short in dict.fromkeys((source.name, source.name.rpartition("/")[2])):
            if name.startswith(f"{short}:") and name[len(short) + 1 :] in source.values:
                return source.values[name[len(short) + 1 :]]
    raise missing(name, [path for source in sources for path in source.values])


def missing(name: str, there: Iterable[str]) -> NotFound:
    """What to say of a metric that nobody has."""
    names = list(dict.fromkeys(there))
    if not names:
        return NotFound(f"there is no metric {name!r}", hint="no metrics were found at all")
    near = difflib.get_close_matches(name.rpartition(":")[2], names, n=1, cutoff=0.5)
    start = f"did you mean {near[0]!r}? " if near else ""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return NotFound(f"there is no metric {name!r}", hint=f"{start}there are {', '.join(names[:_NAMED])}{more}")


def changes(now: Mapping[str, float], base: Mapping[str, float]) -> list[Change]:
    """Every metric of either side: those of now in their order, then those that only the base has."""
    return [Change(name, now.get(name), base.get(name)) for name in dict.fromkeys([*now, *base])]


def shown(value: float | None) -> str:
    """A number as people read it: six digits at most, whole ones whole. "" for none."""
    if value is None:
        return ""
    if math.isfinite(value) and value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.6g}"


def shown_percent(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:+.2f}%" if abs(value) < 1000 else f"{value:+.3g}%"
