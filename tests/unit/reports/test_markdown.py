"""Other people's words stay words, and what does not fit is left out in whole pieces."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.reports.markdown import Section, code, fence, fit, head, image, row, words

from .parsed import parse

NASTY = [
    "a|b",
    "a\\|b",
    "a\\",
    "`x`",
    "``",
    "<img src=x onerror=alert(1)>",
    "</code></td><script>",
    "@team/all",
    "#12 !3 GH-4",
    "$x$",
    "[a](javascript:b)",
    "![](http://x/y.png)",
    "*bold* _it_ ~~no~~",
    "line\nbreak\r\n| --- |",
    "&lt;b&gt; &#64;",
    "https://evil.example/?a=b",
    "-->",
    "\x00\x1b[31m",
    "漢字 é 🎉",
]


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize("how", [code, words])
def test_a_cell_holds_the_very_text_and_nothing_else_comes_of_it(text: str, how: object) -> None:
    assert callable(how)
    table = parse(f"{head(['name', 'value'])}\n{row([how(text), '1'])}\n\nafter")
    shown = re.sub(r"\u200b", "", table.tables[0][1][0])
    assert shown == re.sub(r"[\s\x00-\x1f]+", " ", text).strip()
    assert (table.tables[0][1][1], table.links, table.images, table.foreign_html) == ("1", [], [], [])


@given(st.text(max_size=60))
def test_no_text_breaks_out_of_its_cell(text: str) -> None:
    table = parse(f"{head(['name', 'value'])}\n{row([code(text), words(text), 'last'])}")
    assert [len(one) for one in table.tables[0]] == [2, 2]
    assert (table.links, table.images, table.foreign_html, table.headings) == ([], [], [], [])


@given(st.text(max_size=80))
def test_no_text_breaks_out_of_its_fence(text: str) -> None:
    found = parse(f"{fence(text)}\n\nafter")
    assert len(found.fences) == 1
    assert found.text == "after\n"


def test_mentions_are_not_there_even_after_rendering() -> None:
    """Forges look for them in the text that was rendered, but not in code."""
    assert "@team" not in parse(words("ask @team")).text
    assert parse(code("@team")).text == "@team\n"


def test_an_image_keeps_its_address() -> None:
    found = parse(image("a]b", 'https://x.example/a b(1).png?s="<>'))
    assert found.images == [("a]b", "https://x.example/a%20b%281%29.png?s=%22%3C%3E")]


def test_what_matters_least_is_left_out_first_and_counted() -> None:
    rows = [row([f"m{number}", str(number)]) for number in range(100)]
    charts = [f"chart {number} " + "x" * 500 for number in range(8)]
    sections = [
        Section("Metrics", rows, before=head(["metric", "value"]), rank=8, noun="metric"),
        Section("Charts", charts, rank=2, noun="chart", between="\n\n"),
    ]
    whole = fit("## Report", sections, 10_000)
    assert "left out" not in whole
    assert len(whole) > 5000
    less = fit("## Report", sections, 3500)
    assert len(less) <= 3500
    assert "_4 more charts left out: the whole would be longer than the forge takes._" in less
    assert less.count("chart 1 ") == 1
    assert len(parse(less).tables[0]) == 101
    least = fit("## Report", sections, 900)
    assert "_8 charts left out" in least
    assert re.search(r"_\d+ more metrics left out", least)
    assert len({len(cells) for cells in parse(least).tables[0]}) == 1


@given(st.integers(400, 4000))
def test_every_length_is_kept(longest: int) -> None:
    sections = [Section("A", ["x" * 90] * 50, rank=1), Section("B", ["y" * 90] * 50, rank=2)]
    assert len(fit("## R", sections, longest)) <= longest
