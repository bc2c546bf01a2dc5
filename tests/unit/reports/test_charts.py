"""Charts: Mermaid's text within its grammar, and SVG that is XML."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.reports.charts import Chart, charts, mermaid, resampled, svg
from provisioner.reports.found import Series

from .parsed import parse

NUMBER = r"-?\d+(?:\.\d+)?"
GRAMMAR = re.compile(
    r'%%\{init: .*\}%%\nxychart-beta\n    title "[^"`]*"\n'
    rf'    x-axis "[^"`]*" {NUMBER} --> {NUMBER}\n    y-axis (?:"[^"`]*" )?{NUMBER} --> {NUMBER}\n'
    rf"(?:    line \[{NUMBER}(?:, {NUMBER})*\]\n)+"
)
POINTS = st.lists(
    st.tuples(st.integers(0, 10**6).map(float), st.floats(-1e30, 1e30)),
    min_size=2,
    max_size=120,
    unique_by=lambda p: p[0],
).map(sorted)


def test_a_chart_is_what_mermaid_reads() -> None:
    chart = Chart("train/loss", "step", {"": [(0.0, 1.0), (1.0, 0.5), (2.0, 0.25)]})
    ((language, text),) = parse(mermaid(chart)).fences
    assert language == "mermaid"
    assert text.splitlines()[1:] == [
        "xychart-beta",
        '    title "train/loss"',
        '    x-axis "step" 0 --> 2',
        "    y-axis 0.25 --> 1",
        "    line [1, 0.5, 0.25]",
    ]


@given(points=POINTS, name=st.text(max_size=40))
def test_every_series_and_name_stays_within_the_grammar(points: list[tuple[float, float]], name: str) -> None:
    ((_, text),) = parse(mermaid(Chart(name, name, {"": points}))).fences
    assert GRAMMAR.fullmatch(text), text
    assert text.count("%%") == 2


@given(points=POINTS, name=st.text(max_size=40))
def test_every_picture_is_xml(points: list[tuple[float, float]], name: str) -> None:
    tree = ElementTree.fromstring(svg(Chart(name, "step", {"a": points, name: points})))
    lines = [one for one in tree if one.tag.endswith("polyline")]
    assert len(lines) == len({"a", name})
    assert "nan" not in lines[0].attrib["points"]


def test_uneven_points_are_put_in_their_places() -> None:
    assert resampled([(0.0, 0.0), (1.0, 10.0), (4.0, 40.0)], 0.0, 4.0, 5) == [0.0, 10.0, 20.0, 30.0, 40.0]
    assert resampled([(1.0, 5.0), (2.0, 6.0)], 0.0, 4.0, 5) == [5.0, 5.0, 6.0, 6.0, 6.0]


def test_small_and_large_values_are_scaled_and_the_axis_says_so() -> None:
    text = mermaid(Chart("lr", "step", {"": [(0.0, 3e-5), (1.0, 1e-5)]}))
    assert 'y-axis "times 10^-5" 1 --> 3' in text
    assert "line [3, 1]" in text
    assert 'y-axis "times 10^9" 2 --> 4' in mermaid(Chart("n", "step", {"": [(0.0, 2e9), (1.0, 4e9)]}))


def test_a_flat_line_has_room_around_it() -> None:
    assert "y-axis 0.9 --> 1.1" in mermaid(Chart("a", "step", {"": [(0.0, 1.0), (1.0, 1.0)]}))
    assert "y-axis -1 --> 1" in mermaid(Chart("a", "step", {"": [(0.0, 0.0), (1.0, 0.0)]}))


def test_series_of_one_name_share_a_chart_and_single_points_have_none() -> None:
    one, other = Series("loss", "step", [(0, 1), (1, 0)]), Series("loss", "step", [(0, 2), (1, 1)])
    (chart,) = charts([("j-1", [one, Series("acc", "step", [(0, 1)])]), ("j-2", [other])])
    assert list(chart.lines) == ["j-1", "j-2"]
    assert mermaid(chart).endswith("`loss`: `j-1` blue, `j-2` orange")


@pytest.mark.parametrize("count", [2, 50])
def test_a_long_series_is_thinned(count: int) -> None:
    points = [(float(x), math.sin(x / 100)) for x in range(100_000)]
    assert len(resampled(points, 0.0, 99_999.0, count)) == count
    assert svg(Chart("a", "x", {"": points})).count(",") < 3000
