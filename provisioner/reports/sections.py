"""The sections of a report, each from what was found: gates, metrics, tests, charts, images, runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from provisioner.domain.forge import Conclusion
from provisioner.domain.gates import Verdict
from provisioner.domain.metrics import Change, Source, changes, shown, shown_percent

from .charts import Chart, mermaid
from .found import Failed, Found, Picture, Suite
from .markdown import Section, code, fence, fit, head, image, row, words
from .runs import run_section

_LONGEST_NAME = 200  # characters; arbitrary

# Where an image can be seen; "" where nobody but this computer could.
Place = Callable[[Picture], str]


@dataclass(frozen=True)
class Report:
    """`better` says of a metric whether higher is better; metrics that are not in it are shown without judgement.
    `chart` draws one; `subject` is the commit that all of it is about."""

    title: str
    found: Sequence[Found]
    verdicts: Sequence[Verdict] = ()
    charts: Sequence[Chart] = ()
    place: Place = lambda picture: picture.path.as_posix()
    chart: Callable[[Chart], str] = mermaid
    better: Mapping[str, bool] = field(default_factory=dict)
    base_name: str = ""
    subject: str = ""


def conclusion(verdicts: Sequence[Verdict], suites: Sequence[Suite]) -> Conclusion:
    """Failure where a gate failed or, without gates, a test did; neutral where nothing was asked."""
    if verdicts:
        return Conclusion.SUCCESS if all(one.passed for one in verdicts) else Conclusion.FAILURE
    if suites:
        failed = any(suite.failures or suite.errors for suite in suites)
        return Conclusion.FAILURE if failed else Conclusion.SUCCESS
    return Conclusion.NEUTRAL


def summary(report: Report) -> str:
    """A line without names: how the gates and tests went."""
    suites = [suite for found in report.found for suite in found.suites]
    said = []
    if report.verdicts:
        passed = sum(one.passed for one in report.verdicts)
        said.append(f"{passed} of {_counted(len(report.verdicts), 'gate')} passed")
    if suites:
        tests, failed = sum(one.tests for one in suites), sum(one.failures + one.errors for one in suites)
        said.append(
            f"{failed} of {_counted(tests, 'test')} failed" if failed else f"{_counted(tests, 'test')}, no failure"
        )
    return "; ".join(said)


def render(report: Report, longest: int) -> str:
    """Markdown of at most `longest` characters, all of them such as UTF-8 has."""
    sections = [
        *_gates(report.verdicts),
        *_metrics(report),
        *_tests(report.found),
        *_charts(report),
        *_pictures(report),
        *(section for found in report.found if found.record for section in run_section(found)),
        *_notes(report.found),
    ]
    mark = {Conclusion.SUCCESS: "✅ ", Conclusion.FAILURE: "❌ ", Conclusion.NEUTRAL: ""}
    suites = [suite for found in report.found for suite in found.suites]
    told = summary(report)
    commit = f"Commit {report.subject[:12]}." if report.subject else ""
    state = f"{mark[conclusion(report.verdicts, suites)]}{told}." if told else ""
    start = [f"## {words(report.title[:100])}", " ".join(part for part in (state, commit) if part)]
    if not sections:
        start.append("_Nothing to report yet._")
    text = fit("\n\n".join(part for part in start if part), sections, longest)
    return text.encode(errors="replace").decode()


def _gates(verdicts: Sequence[Verdict]) -> list[Section]:
    if not verdicts:
        return []
    rows = [_verdict(one) for one in sorted(verdicts, key=lambda one: one.passed)]
    columns = head(["gate", "", "value", "bound", "off by"], numbers_from=2)
    return [Section("Gates", rows, before=columns, rank=9, noun="gate")]


def _verdict(one: Verdict) -> str:
    share = f" ({one.percent:.3g}%)" if one.percent is not None else ""
    off = one.why or (f"{shown(one.off_by)}{share}" if one.off_by is not None else "")
    state = "✅ passed" if one.passed else "❌ failed"
    return row([code(one.gate), state, shown(one.value), shown(one.bound), off])


def _metrics(report: Report) -> list[Section]:
    having = [found for found in report.found if found.metrics or found.base]
    if not having:
        return []
    if len(having) > 1:
        return [_side_by_side(having)]
    found = having[0]
    now, base = merged(found.metrics), merged(found.base or [])
    if found.base is None:
        rows = [row([code(name), shown(value)]) for name, value in now.items()]
        return [Section("Metrics", rows, before=head(["metric", "value"]), rank=8, noun="metric")]
    rows = [_change(one, report.better) for one in changes(now, base)]
    columns = head(["metric", words(report.base_name) or "base", "now", "change", "in %"])
    return [Section("Metrics", rows, before=columns, rank=8, noun="metric")]


def _side_by_side(having: Sequence[Found]) -> Section:
    """A column for each job, the base first where there is one."""
    base = next((found.base for found in having if found.base is not None), None)
    columns = [merged(found.metrics) for found in having]
    heads = [code(found.label) for found in having]
    if base is not None:
        columns, heads = [merged(base), *columns], ["base", *heads]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [row([code(name), *(shown(column.get(name)) for column in columns)]) for name in names]
    return Section("Metrics", rows, before=head(["metric", *heads]), rank=8, noun="metric")


def merged(sources: Sequence[Source]) -> dict[str, float]:
    """By name; names that several files have get their file's before them."""
    often: dict[str, int] = {}
    for source in sources:
        for name in source.values:
            often[name] = often.get(name, 0) + 1
    return {
        name if often[name] == 1 else f"{source.name}:{name}": value
        for source in sources
        for name, value in source.values.items()
    }


def _change(one: Change, better: Mapping[str, bool]) -> str:
    by = shown(one.by)
    if one.by is not None and one.by > 0:
        by = f"+{by}"
    if one.by and (higher := better.get(one.name, better.get(one.name.rpartition(":")[2]))) is not None:
        arrow = "▲" if one.by > 0 else "▼"
        by += f" {arrow} better" if (one.by > 0) == higher else f" {arrow} worse"
    return row([code(one.name), shown(one.base), shown(one.now), by, shown_percent(one.percent)])


def _tests(all_found: Sequence[Found]) -> list[Section]:
    suites = [suite for found in all_found for suite in found.suites]
    if not suites:
        return []
    columns = head(["file", "tests", "failed", "errors", "skipped", "time"])
    counts = [
        row([code(one.name), *map(str, (one.tests, one.failures, one.errors, one.skipped)), f"{one.time_s:.1f} s"])
        for one in suites
    ]
    told = [Section("Tests", counts, before=columns, rank=7, noun="file")]
    failures = [_failure(one) for suite in suites for one in suite.failed]
    if failures:
        told.append(Section("Failed tests", failures, rank=5, noun="failed test", between="\n\n"))
    return told


def _failure(one: Failed) -> str:
    kind = " (error)" if one.kind == "error" else ""
    if not one.message:
        return f"❌ {code(one.name)}{kind}"
    # Markdown is not read inside of HTML, so that the name has to be spelled out.
    name = f"❌ <code>{words(one.name[:_LONGEST_NAME])}</code>{kind}"
    return f"<details><summary>{name}</summary>\n\n{fence(one.message)}\n\n</details>"


def _charts(report: Report) -> list[Section]:
    drawn = [report.chart(chart) for chart in report.charts]
    return [Section("Charts", drawn, rank=2, noun="chart", between="\n\n")] if drawn else []


def _pictures(report: Report) -> list[Section]:
    told = []
    for found in report.found:
        for picture in found.pictures:
            name = f"{found.label}: {picture.name}" if found.label and len(report.found) > 1 else picture.name
            place = report.place(picture)
            told.append(f"{code(name)}\n\n{image(name, place)}" if place else f"{code(name)} _(not published)_")
    return [Section("Images", told, rank=1, noun="image", between="\n\n")] if told else []


def _notes(all_found: Sequence[Found]) -> list[Section]:
    lines = [f"- {words(note)}" for found in all_found for note in found.notes]
    return [Section("Left aside", lines, rank=0, noun="note")] if lines else []


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
