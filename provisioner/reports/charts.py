"""Series as charts: Mermaid's xychart, which forges draw from text in a comment, and SVG files of our own.

Mermaid puts points at even distances and reads plain decimals only, so series are resampled to an even grid, and very
large or small values are scaled, which the axis says.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from provisioner.domain.metrics import shown

from .found import Series
from .markdown import code, fence

MOST_POINTS = 50  # of one line; arbitrary: a comment holds a dozen charts then
MOST_LINES = 6
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b")
_COLOUR_NAMES = ("blue", "orange", "green", "red", "violet", "brown")
_SAFE = re.compile(r"[^\w .:/@()+,=*^-]+")
_NO_XML = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 700, 320, 70, 20, 40, 50


@dataclass(frozen=True, slots=True)
class Chart:
    """One metric over its counter, a line for each label."""

    name: str
    x_name: str
    lines: Mapping[str, Sequence[tuple[float, float]]]

    @property
    def span(self) -> tuple[float, float, float, float]:
        """(least x, greatest x, least y, greatest y), never empty in either direction."""
        xs = [x for points in self.lines.values() for x, _ in points]
        ys = [y for points in self.lines.values() for _, y in points]
        return (*_apart(min(xs), max(xs)), *_apart(min(ys), max(ys)))


def charts(found: Sequence[tuple[str, Sequence[Series]]]) -> list[Chart]:
    """A chart a metric: series of the same name from several places (label, series) share one. Single points are no
    lines, and are left to the tables."""
    by_name: dict[str, dict[str, Series]] = {}
    for label, series in found:
        for one in series:
            if len({x for x, _ in one.points}) > 1:
                by_name.setdefault(one.name, {}).setdefault(label, one)
    return [
        Chart(
            name,
            next(iter(lines.values())).x_name,
            {label: one.points for label, one in list(lines.items())[:MOST_LINES]},
        )
        for name, lines in by_name.items()
    ]


def resampled(points: Sequence[tuple[float, float]], low: float, high: float, count: int) -> list[float]:
    """Values at `count` even places from `low` to `high`: in proportion between neighbours, the last beyond an end."""
    values, at = [], 0
    for number in range(count):
        x = low + (high - low) * number / (count - 1)
        while at + 1 < len(points) and points[at + 1][0] <= x:
            at += 1
        (x0, y0), (x1, y1) = points[at], points[min(at + 1, len(points) - 1)]
        share = (x - x0) / (x1 - x0) if x1 > x0 and x > x0 else 0.0
        values.append(y0 + (y1 - y0) * min(1.0, share))
    return values


def mermaid(chart: Chart) -> str:
    """A fenced block, and a word on the lines where there are several."""
    left, right, low, high = chart.span
    power = _power(max(abs(low), abs(high)))
    scale = 10.0**-power
    count = min(MOST_POINTS, max(len(points) for points in chart.lines.values()))
    y_name = f'"times 10^{power}" ' if power else ""
    lines = [
        f'%%{{init: {{"themeVariables": {{"xyChart": {{"plotColorPalette": "{", ".join(COLOURS)}"}}}}}}}}%%',
        "xychart-beta",
        f'    title "{_safe(chart.name)}"',
        f'    x-axis "{_safe(chart.x_name)}" {_plain(left)} --> {_plain(right)}',
        f"    y-axis {y_name}{_plain(low * scale)} --> {_plain(high * scale)}",
    ]
    for points in chart.lines.values():
        values = ", ".join(_plain(y * scale) for y in resampled(points, left, right, count))
        lines.append(f"    line [{values}]")
    block = fence("\n".join(lines), "mermaid")
    if len(chart.lines) == 1:
        return block
    named = zip(chart.lines, _COLOUR_NAMES, strict=False)
    return f"{block}\n\n{code(chart.name)}: " + ", ".join(f"{code(label)} {colour}" for label, colour in named)


def svg(chart: Chart) -> str:
    """A picture of its own: every point, axes with their ends, a legend where there are several lines."""
    left, right, low, high = chart.span
    wide, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(x: float, y: float) -> str:
        return f"{_LEFT + wide * (x - left) / (right - left):.1f},{_TOP + tall * (high - y) / (high - low):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _label(_WIDTH / 2, 22, chart.name, "middle", 15),
        f'<path d="M{_LEFT} {_TOP}V{_TOP + tall}H{_WIDTH - _RIGHT}" fill="none" stroke="#888"/>',
        _label(_LEFT - 6, _TOP + 10, shown(high), "end"),
        _label(_LEFT - 6, _TOP + tall, shown(low), "end"),
        _label(_LEFT, _TOP + tall + 18, shown(left), "middle"),
        _label(_WIDTH - _RIGHT, _TOP + tall + 18, shown(right), "end"),
        _label(_WIDTH / 2, _TOP + tall + 18, chart.x_name, "middle"),
    ]
    for number, ((label, points), colour) in enumerate(zip(chart.lines.items(), COLOURS, strict=False)):
        drawn = " ".join(place(x, y) for x, y in _thinned(points))
        parts.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(chart.lines) > 1:
            parts.append(_label(_LEFT + 110 * number, _HEIGHT - 10, label, "start", colour=colour))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _label(x: float, y: float, text: str, anchor: str, size: int = 12, colour: str = "#333") -> str:
    clean = html.escape(_NO_XML.sub(" ", text)[:80])
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{clean}</text>'


def _thinned(points: Sequence[tuple[float, float]], most: int = 2000) -> Sequence[tuple[float, float]]:
    step = -(-len(points) // most)
    return points if step == 1 else [*points[:-1:step], points[-1]]


def _apart(low: float, high: float) -> tuple[float, float]:
    if high > low:
        return low, high
    room = abs(low) / 10 or 1.0
    return low - room, high + room


def _power(greatest: float) -> int:
    """The power of ten to take out of values that plain decimals of a sensible length cannot show."""
    return 0 if 1e-3 <= greatest < 1e7 else math.floor(math.log10(greatest)) if greatest else 0


def _plain(value: float) -> str:
    """Without an exponent. Source: Mermaid's grammar of xychart, which knows digits and one point."""
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def _safe(text: str) -> str:
    """What Mermaid takes between quotes, and none of what it takes for a directive or Markdown."""
    return _SAFE.sub(" ", text)[:80].strip() or " "
