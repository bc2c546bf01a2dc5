"""Gates and reports for the command line: what the user asked for, put together from what was found.

`gate` judges and is done. A `Reporter` draws a report as often as it is asked to, each time from the files as they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from provisioner.domain.errors import InvalidRequest
from provisioner.domain.forge import Conclusion
from provisioner.domain.gates import Verdict
from provisioner.domain.metrics import Change, changes
from provisioner.domain.step import Step
from provisioner.reports import pictures
from provisioner.reports.charts import Chart, charts, mermaid, svg
from provisioner.reports.found import Found
from provisioner.reports.gather import BaseOf, Inputs, check_metrics, gates_of, gather, judged, usual, with_base
from provisioner.reports.markdown import code, image
from provisioner.reports.sections import Report, conclusion, merged, render, summary

from .reviewing import step

CHARTS = ("mermaid", "svg", "none")
_NO_LIMIT = 900_000  # characters of a report that is not posted; arbitrary: a step's summary takes a MiB


def gate(
    texts: Sequence[str], inputs: Inputs, base: str, folder: Path, environment: Mapping[str, str]
) -> list[Verdict]:
    """Raises: NotFound, InvalidRequest."""
    found = gather(_or_usual(inputs, folder), folder)
    gates = gates_of(texts, found.suites)
    check_metrics(gates, found)
    why = with_base(found, _base(base, step(environment)), folder)[1] if any(g.needs_base for g in gates) else ""
    return judged(gates, found, why)


def _or_usual(inputs: Inputs, folder: Path) -> Inputs:
    """Where only JUnit files were named, the metrics still lie where they always do."""
    there = usual(folder)
    if not inputs.named:
        return Inputs(metrics=there.metrics or _live(there))
    if inputs.metrics or inputs.dvclive or inputs.dvc_diff:
        return inputs
    return Inputs(metrics=there.metrics or _live(there), junit=inputs.junit)


def _live(there: Inputs) -> tuple[str, ...]:
    return tuple(f"{name}/metrics.json" for name in there.dvclive if (Path(name) / "metrics.json").is_file())


def _base(named: str, here: Step | None) -> BaseOf:
    if here is None or here.target.what != "pr":
        return BaseOf(named)
    return BaseOf(named, here.target_branch, here.base_sha)


@dataclass(frozen=True)
class JobLeft:
    """What a controller has of a job: its record and readings, and a folder with those of its results that a report
    can use."""

    record: Mapping[str, Any]
    readings: Sequence[Mapping[str, Any]]
    folder: Path
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Wanted:
    """What a report is to show. `assets` is where pictures that are drawn here are written; None: nowhere. `shown`
    gives the address of an image's file, "" where there is none that others could open."""

    title: str
    inputs: Inputs = field(default_factory=Inputs)
    gates: tuple[str, ...] = ()
    base: str = ""
    charts: str = "mermaid"
    better: Mapping[str, bool] = field(default_factory=dict)
    assets: Path | None = None
    shown: Callable[[Path], str] = lambda path: path.as_posix()


@dataclass(frozen=True)
class Made:
    """`text(longest)` is Markdown of at most so many characters."""

    report: Report
    changes: Sequence[Change]
    conclusion: Conclusion
    summary: str

    def text(self, longest: int = _NO_LIMIT) -> str:
        return render(self.report, longest)

    def plain(self) -> dict[str, Any]:
        """For --json."""
        return {
            "title": self.report.title,
            "conclusion": str(self.conclusion),
            "gates": plain_verdicts(self.report.verdicts),
            "metrics": [_plain_change(one) for one in self.changes],
            "tests": [asdict(suite) for found in self.report.found for suite in found.suites],
            "markdown": self.text(),
        }


def make(wanted: Wanted, left: Sequence[JobLeft], folder: Path, here: Step | None) -> Made:
    """A report from the files as they are. Raises: NotFound, InvalidRequest."""
    if wanted.charts == "svg" and wanted.assets is None:
        raise InvalidRequest("SVG charts need a place", hint="name a folder with --assets")
    found = [_of_job(one, wanted.inputs) for one in left]
    if not left:
        found = [gather(wanted.inputs if wanted.inputs.named else usual(folder), folder)]
    called, why = _add_base(found, wanted, folder, here)
    verdicts = _verdicts(found, wanted.gates, why)
    several = len(found) > 1
    drawn = charts([(one.label if several else "", one.series) for one in found]) if wanted.charts != "none" else []
    if wanted.assets is not None:
        _write(drawn, wanted.assets)
    report = Report(
        title=wanted.title,
        found=found,
        verdicts=verdicts,
        charts=drawn,
        place=lambda picture: wanted.shown(picture.path),
        chart=mermaid if wanted.charts == "mermaid" else lambda chart: _shown_svg(chart, wanted),
        better=wanted.better,
        base_name=called,
        subject=here.sha if here is not None else "",
    )
    suites = [suite for one in found for suite in one.suites]
    compared = changes(merged(found[0].metrics), merged(found[0].base or []))
    return Made(report, compared, conclusion(verdicts, suites), summary(report))


def _of_job(left: JobLeft, inputs: Inputs) -> Found:
    named = inputs if inputs.named else usual(left.folder, anywhere=True)
    found = gather(named, left.folder, str(left.record.get("id", "")))
    found.record, found.readings = left.record, left.readings
    found.notes += left.notes
    return found


def _add_base(found: Sequence[Found], wanted: Wanted, folder: Path, here: Step | None) -> tuple[str, str]:
    """The same base for every job. One that is only the default may be missing."""
    called, why = "", "no metrics were found"
    for one in found:
        if one.metrics:
            called, why = with_base(one, _base(wanted.base, here), folder)
    if wanted.base == "":
        for one in found:
            one.base = one.base or None
    return called, why


def _verdicts(found: Sequence[Found], texts: Sequence[str], why: str) -> list[Verdict]:
    if not texts:
        return []
    if len(found) > 1:
        raise InvalidRequest("gates judge one job", hint="report the jobs one by one, or leave out --metric")
    return judged(gates_of(texts, found[0].suites), found[0], why)


def _write(drawn: Sequence[Chart], assets: Path) -> None:
    assets.mkdir(parents=True, exist_ok=True)
    for chart in drawn:
        (assets / svg_name(chart)).write_text(svg(chart))


def svg_name(chart: Chart) -> str:
    """A file's name, whatever the series is called."""
    return (re.sub(r"[^\w.-]+", "-", chart.name).strip("-.")[:100] or "chart") + ".svg"


def _shown_svg(chart: Chart, wanted: Wanted) -> str:
    assert wanted.assets is not None
    address = wanted.shown(wanted.assets / svg_name(chart))
    return image(chart.name, address) if address else f"{code(chart.name)} _(not published)_"


def plain_verdicts(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """For --json: numbers that JSON has none of are null."""
    return [
        {
            "id": one.gate,
            "passed": one.passed,
            "value": _finite(one.value),
            "bound": _finite(one.bound),
            "off_by": _finite(one.off_by),
            "percent": _finite(one.percent),
            "why": one.why,
        }
        for one in verdicts
    ]


def _plain_change(one: Change) -> dict[str, Any]:
    return {"id": one.name, "value": _finite(one.now), "base": _finite(one.base), "change": _finite(one.by)}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def comment_text(markdown: str, folder: Path, shown: Callable[[Path], str], aside: Path) -> str:
    """The Markdown with its local images at addresses that others can open; what has none stays as it is."""
    text, at = [], 0
    for start, end, target in pictures.image_targets(markdown):
        path = pictures.kept_picture(target, folder, Path(), aside)
        address = shown(path) if path is not None else ""
        text += [markdown[at:start], address or target]
        at = end
    return "".join([*text, markdown[at:]])
