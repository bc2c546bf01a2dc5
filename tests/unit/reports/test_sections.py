"""A report drawn whole: what others called their branches, files and metrics is text, wherever it stands."""

from __future__ import annotations

from provisioner.domain.metrics import Source
from provisioner.reports.found import Found
from provisioner.reports.sections import Report, render

from .parsed import parse


def test_a_branch_may_be_called_anything() -> None:
    found = Found(metrics=[Source("m.json", {"loss": 1.0})], base=[Source("m.json", {"loss": 2.0})])
    text = render(Report("Report", [found], base_name="a|b<img/src=x>`@team/all`"), 10_000)
    parsed = parse(text)
    assert [len(row) for row in parsed.tables[0]] == [5, 5]
    assert parsed.tables[0][0][1].replace("\u200b", "") == "a|b<img/src=x>`@team/all`"
    assert ("@team" in text, parsed.foreign_html) == (False, [])


def test_names_that_utf8_has_no_letters_for_are_shown_all_the_same() -> None:
    found = Found(metrics=[Source("m.json", {"lo\udcffss": 1.0})])
    assert parse(render(Report("R", [found]), 10_000)).tables[0][1] == ["lo?ss", "1"]
