"""Files that jobs leave: metrics, series as TSV, CSV or JSON, images, DVCLive's folder, `dvc metrics diff`.

They are somebody else's: sizes are bounded, and what cannot be used is said in one line.
"""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from provisioner.domain.errors import InvalidRequest, NotFound
from provisioner.domain.metrics import Source, as_float, flatten

from .formats import tree
from .found import Found, Picture, Series

LARGEST = 64 * 2**20  # bytes of one file of numbers; arbitrary
LARGEST_PICTURE = 10 * 2**20  # bytes; arbitrary
MOST_PICTURES = 60
MOST_POINTS = 200_000  # rows of one series; arbitrary
PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg"}
SERIES = {".tsv", ".csv", ".json"}
_COUNTERS = ("step", "epoch", "iteration", "iter", "global_step")
_NO_SERIES = {"timestamp", "time", "index"}
_CODE = r"(?<!`)(?P<ticks>`+)(?!`)(?s:.*?)(?<!`)(?P=ticks)(?!`)"
_IMAGE = re.compile(_CODE + r"|!\[[^\]\n]*\]\(<?(?P<target>[^)\s>]+)>?[^)\n]*\)")
_DATA = re.compile(r"data:image/(png|jpeg|gif|webp);base64,([A-Za-z0-9+/=]+)")


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
        folder = top or (path if path.is_dir() else path.parent)
        for one in sorted(_below(path)):
            _take(found, one, one.relative_to(folder).as_posix() if one.is_relative_to(folder) else one.name)


def take_dvclive(found: Found, folder: Path) -> None:
    """A DVCLive folder: metrics.json, plots/metrics, plots/images and what report.md shows. Raises: NotFound,
    InvalidRequest."""
    if not folder.is_dir():
        raise NotFound(f"there is no folder {folder}", hint="name DVCLive's folder with --dvclive")
    if (folder / "metrics.json").is_file():
        found.metrics.append(read_metrics(folder / "metrics.json"))
    for below in ("plots/metrics", "plots/images"):
        if (folder / below).is_dir():
            take_plots(found, [folder / below])
    if (folder / "report.md").is_file():
        known = {picture.path.resolve() for picture in found.pictures}
        text = _bytes(folder / "report.md", str(folder / "report.md")).decode(errors="replace")
        found.pictures += [one for one in pictures_of(text, folder) if one.path.resolve() not in known]


def pictures_of(markdown: str, folder: Path) -> list[Picture]:
    """Local images that Markdown shows; those inside of it (data:) are written beside, named by their content."""
    shown = []
    for target in dict.fromkeys(target for _, _, target in image_targets(markdown)):
        path = kept_picture(target, folder)
        if path is not None:
            shown.append(Picture(path.name, path))
    return shown[:MOST_PICTURES]


def kept_picture(target: str, folder: Path, aside: Path | None = None) -> Path | None:
    """The file behind an image's target; None for what is elsewhere, or no image. One that is inside of the Markdown
    is written to `aside`, or to the folder."""
    if match := _DATA.fullmatch(target):
        try:
            data = base64.b64decode(match[2], validate=True)
        except binascii.Error:
            return None
        path = (aside or folder) / f"{hashlib.sha256(data).hexdigest()[:16]}.{match[1]}"
        if not path.exists():
            path.write_bytes(data)
        return path
    if "://" in target or target.startswith(("data:", "//", "#")):
        return None
    path = folder / unquote(target.partition("?")[0])
    fits = path.suffix.lower() in PICTURES and path.is_file() and path.stat().st_size <= LARGEST_PICTURE
    return path if fits else None


def image_targets(markdown: str) -> list[tuple[int, int, str]]:
    """(start, end, target) of each image's target in Markdown; what stands in code is text."""
    found = (match for match in _IMAGE.finditer(markdown) if match["target"])
    return [(match.start("target"), match.end("target"), match["target"]) for match in found]


def _below(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    else:
        yield from (one for one in path.rglob("*") if one.is_file() and not one.name.startswith("."))


def _take(found: Found, path: Path, name: str) -> None:
    suffix = path.suffix.lower()
    try:
        if suffix in PICTURES:
            _take_picture(found, path, name)
        elif suffix in SERIES:
            found.series += read_series(path, name)
    except InvalidRequest as error:
        found.notes.append(error.line)


def _take_picture(found: Found, path: Path, name: str) -> None:
    size = path.stat().st_size
    if size > LARGEST_PICTURE:
        found.notes.append(f"{name} has {size} bytes, more than {LARGEST_PICTURE}: it is not shown")
    elif len(found.pictures) >= MOST_PICTURES:
        found.notes.append(f"{name} is not shown: {MOST_PICTURES} images are the most")
    else:
        found.pictures.append(Picture(name, path))


def read_series(path: Path, name: str) -> list[Series]:
    """Every column of numbers but the one that counts. Raises: InvalidRequest."""
    text = _bytes(path, name).decode(errors="replace")
    rows = _json_rows(text, name) if path.suffix.lower() == ".json" else _rows(text, path.suffix.lower())
    if len(rows) > MOST_POINTS:
        raise InvalidRequest(f"{name} has {len(rows)} rows", hint=f"{MOST_POINTS} are the most")
    columns = list(dict.fromkeys(key for row in rows[:100] for key in row if key))
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


def _rows(text: str, suffix: str) -> list[dict[str, Any]]:
    try:
        return list(csv.DictReader(io.StringIO(text), delimiter="\t" if suffix == ".tsv" else ","))
    except csv.Error as error:
        raise InvalidRequest(f"not a table: {error}") from error


def _json_rows(text: str, name: str) -> list[dict[str, Any]]:
    """A list of objects; anything else is no series, and no error either: not every JSON file is one."""
    found = tree(text.encode(), name)
    rows = found if isinstance(found, list) else []
    return [row for row in rows if isinstance(row, dict)]


def _float(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _bytes(path: Path, shown: str) -> bytes:
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise InvalidRequest(f"{shown} has {size} bytes", hint=f"{LARGEST} are the most")
        return path.read_bytes()
    except OSError as error:
        raise NotFound(f"cannot read {shown}: {error.strerror}", hint="name the file as it is called") from error
