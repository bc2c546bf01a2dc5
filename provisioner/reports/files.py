"""Files that jobs leave: metrics, series as TSV, CSV or JSON, DVCLive's folder, `dvc metrics diff`.

They are somebody else's: sizes are bounded, and what cannot be used is said in one line.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from provisioner.domain.errors import InvalidRequest, NotFound
from provisioner.domain.metrics import Source, as_float, flatten

from .formats import tree
from .found import Found, Series
from .pictures import PICTURES, pictures_of, take_picture, within

LARGEST = 64 * 2**20  # bytes of one file of numbers; arbitrary
MOST_POINTS = 200_000  # rows of one series; arbitrary
MOST_COLUMNS = 200  # of one table; arbitrary
SERIES = {".tsv", ".csv", ".json"}
_COUNTERS = ("step", "epoch", "iteration", "iter", "global_step")
_NO_SERIES = {"timestamp", "time", "index"}
_GREATEST, _LEAST = 1e100, 1e-100  # that a chart is drawn to; arbitrary


def read_metrics(path: Path, name: str = "") -> Source:
    """Raises: NotFound, InvalidRequest."""
    shown = name or str(path)
    return parse_metrics(_bytes(path, shown), shown)


def parse_metrics(data: bytes, name: str) -> Source:
    """Raises: InvalidRequest."""
    return Source(name, flatten(tree(data, name), name))


def read_diff(path: Path) -> tuple[list[Source], list[Source]]:
    """What `dvc metrics diff --json` printed: the metrics as they are, and as they were. Raises: InvalidRequest."""
    printed = tree(_bytes(path, str(path)), str(path))
    now: dict[str, dict[str, float]] = {}
    old: dict[str, dict[str, float]] = {}
    files = printed.get("diff", printed) if isinstance(printed, Mapping) else {}
    for file, metrics in files.items() if isinstance(files, Mapping) else ():
        for metric, change in metrics.items() if isinstance(metrics, Mapping) else ():
            if not isinstance(change, Mapping):
                continue
            for side, found in (("new", now), ("old", old)):
                value = change.get(side)
                if isinstance(value, int | float):
                    found.setdefault(str(file), {})[str(metric)] = as_float(value)
    if not now and not old:
        raise InvalidRequest(f"{path} holds no differences of metrics", hint="write `dvc metrics diff --json` into it")
    return _sources(now), _sources(old)


def _sources(found: Mapping[str, Mapping[str, float]]) -> list[Source]:
    return [Source(name, values) for name, values in found.items()]


def take_plots(found: Found, paths: Iterable[Path], top: Path | None = None) -> None:
    """Images and series among files and folders, into `found`. Raises: NotFound for a path that is not there."""
    for path in paths:
        if not path.exists():
            raise NotFound(f"there is no {path}", hint="name files or folders with --plots")
        named = path if path.is_dir() else path.parent
        inner = top is not None and path.is_relative_to(top) and ".." not in path.parts
        for one in sorted(_below(path)):
            _take(found, one, top if top is not None and inner else named)


def take_dvclive(found: Found, folder: Path) -> None:
    """A DVCLive folder: metrics.json, plots/metrics, plots/images and what report.md shows. Raises: NotFound,
    InvalidRequest."""
    if not folder.is_dir():
        raise NotFound(f"there is no folder {folder}", hint="name DVCLive's folder with --dvclive")
    if (folder / "metrics.json").is_file():
        found.metrics.append(read_metrics(folder / "metrics.json"))
    for below in ("plots/metrics", "plots/images"):
        if (folder / below).is_dir() and within(folder / below, folder):
            take_plots(found, [folder / below])
    if (folder / "report.md").is_file():
        known = {picture.path.resolve() for picture in found.pictures}
        text = _bytes(folder / "report.md", str(folder / "report.md")).decode(errors="replace")
        found.pictures += [one for one in pictures_of(text, folder) if one.path.resolve() not in known]


def _below(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    else:
        yield from (one for one in path.rglob("*") if one.is_file() and not one.name.startswith("."))


def _take(found: Found, path: Path, folder: Path) -> None:
    suffix, name = path.suffix.lower(), path.relative_to(folder).as_posix()
    try:
        if suffix in PICTURES:
            take_picture(found, path, name, folder)
        elif suffix in SERIES:
            found.series += read_series(path, name)
    except InvalidRequest as error:
        found.notes.append(error.line)


def read_series(path: Path, name: str) -> list[Series]:
    """Every column of numbers but the one that counts. Raises: InvalidRequest."""
    text = _bytes(path, name).decode("utf-8-sig", errors="replace")
    rows = _json_rows(text, name) if path.suffix.lower() == ".json" else _rows(text, path.suffix.lower(), name)
    if len(rows) > MOST_POINTS:
        raise InvalidRequest(f"{name} has more rows than {MOST_POINTS}", hint="keep every tenth of them, or so")
    columns = list(dict.fromkeys(key for row in rows[:100] for key in row if key))
    if len(columns) > MOST_COLUMNS:
        raise InvalidRequest(f"{name} has {len(columns)} columns", hint=f"{MOST_COLUMNS} are the most")
    counter = next((one for one in columns if one.lower() in _COUNTERS), "")
    stem = name.rpartition(".")[0]
    wanted = [one for one in columns if one != counter and one.lower() not in _NO_SERIES]
    read = [(column, _points(rows, counter, column)) for column in wanted]
    several = len([points for _, points in read if points]) > 1
    return [
        Series(f"{stem}.{column}" if several else stem, counter or "row", points) for column, points in read if points
    ]


def _points(rows: list[dict[str, Any]], counter: str, column: str) -> list[tuple[float, float]]:
    points = []
    for number, row in enumerate(rows):
        x, y = _float(row.get(counter)) if counter else float(number), _float(row.get(column))
        if x is not None and y is not None:
            points.append((x, y))
    return sorted(points, key=lambda point: point[0])


def _rows(text: str, suffix: str, name: str) -> list[dict[str, Any]]:
    """One more than is wanted at most."""
    try:
        lines = csv.reader(io.StringIO(text), delimiter="\t" if suffix == ".tsv" else ",")
        head = next(lines, [])
        filled = (line for line in lines if line)
        return [dict(zip(head, line, strict=False)) for line in islice(filled, MOST_POINTS + 1)]
    except csv.Error as error:
        raise InvalidRequest(f"{name} is not a table: {error}") from error


def _json_rows(text: str, name: str) -> list[dict[str, Any]]:
    """A list of objects; anything else is no series, and no error either: not every JSON file is one."""
    found = tree(text.encode(), name)
    rows = found if isinstance(found, list) else []
    return [row for row in rows if isinstance(row, dict)]


def _float(value: object) -> float | None:
    """None for what no chart can show; nothing for what is next to nothing."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    if not abs(number) <= _GREATEST:
        return None
    return number if abs(number) >= _LEAST else 0.0


def _bytes(path: Path, shown: str) -> bytes:
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise InvalidRequest(f"{shown} has {size} bytes", hint=f"{LARGEST} are the most")
        return path.read_bytes()
    except OSError as error:
        raise NotFound(f"cannot read {shown}: {error.strerror}", hint="name the file as it is called") from error
