"""From what the user named, or what lies in the usual places, to what was found there and how the gates judge it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from provisioner.domain.errors import InvalidRequest, NotFound
from provisioner.domain.gates import Gate, Verdict, judge, parse
from provisioner.domain.metrics import Source, find

from . import files, junit
from .found import Found, Suite
from .history import commit_of, merge_base, metrics_at
from .pictures import PICTURES

IMPLIED = ("junit.failures == 0", "junit.errors == 0", "junit.tests > 0")
_METRICS = ("metrics.json", "metrics.yaml", "metrics.yml", "metrics.toml")  # the first that is there
_DVCLIVE = "dvclive"
_PLOTS = "plots"
_JUNIT = ("junit.xml", "report.xml")
_JUNIT_ANYWHERE = ("junit*.xml", "*junit.xml", "TEST-*.xml", "report.xml")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the user named; all of it empty means the usual places."""

    metrics: tuple[str, ...] = ()
    junit: tuple[str, ...] = ()
    plots: tuple[str, ...] = ()
    dvclive: tuple[str, ...] = ()
    dvc_diff: tuple[str, ...] = ()

    @property
    def named(self) -> bool:
        return any((self.metrics, self.junit, self.plots, self.dvclive, self.dvc_diff))


@dataclass(frozen=True, slots=True)
class BaseOf:
    """Where the base is: a file or commit that the user named, else where a pull request began (`branch`, or `commit`
    where the forge told it)."""

    named: str = ""
    branch: str = ""
    commit: str = ""


def usual(folder: Path, *, anywhere: bool = False) -> Inputs:
    """What lies in the usual places of a folder; `anywhere` in it, when all of it is what one job left."""
    if anywhere:
        lives = [one.parent for one in folder.rglob("plots/metrics") if (one.parent.parent / "metrics.json").is_file()]
        dvclive = sorted({_below(one.parent, folder) for one in lives})
        places = sorted({one.parent for name in _METRICS for one in folder.rglob(name)})
        metrics = [_metrics_in(one) for one in places if _below(one, folder) not in dvclive]
        reports = sorted({one for pattern in _JUNIT_ANYWHERE for one in folder.rglob(pattern)})
        outside = [one for one in sorted(folder.iterdir()) if _below(one, folder) not in dvclive]
        pictured = [one for one in outside if one.is_dir() or one.suffix.lower() in PICTURES]
        return Inputs(
            metrics=tuple(_below(one, folder) for found in metrics for one in found),
            junit=tuple(_below(one, folder) for one in reports),
            plots=tuple(_below(one, folder) for one in pictured),
            dvclive=tuple(dvclive),
        )
    return Inputs(
        metrics=tuple(one.name for one in _metrics_in(folder)),
        junit=tuple(name for name in _JUNIT if (folder / name).is_file()),
        plots=(_PLOTS,) if (folder / _PLOTS).is_dir() else (),
        dvclive=(_DVCLIVE,) if (folder / _DVCLIVE).is_dir() else (),
    )


def _metrics_in(folder: Path) -> list[Path]:
    return [folder / name for name in _METRICS if (folder / name).is_file()][:1]


def _below(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def gather(inputs: Inputs, folder: Path, label: str = "") -> Found:
    """Everything that was named. Raises: NotFound, InvalidRequest."""
    found = Found(label)
    found.metrics += [files.read_metrics(folder / name, name) for name in inputs.metrics]
    found.suites += [junit.read(folder / name, name) for name in inputs.junit]
    for name in inputs.dvclive:
        files.take_dvclive(found, folder / name)
    found.metrics = [replace(one, name=_named(one.name, folder)) for one in found.metrics]
    files.take_plots(found, [folder / name for name in inputs.plots], folder)
    for name in inputs.dvc_diff:
        now, old = files.read_diff(folder / name)
        found.metrics += now
        found.base = [*(found.base or ()), *old]
    return found


def _named(name: str, folder: Path) -> str:
    return _below(Path(name), folder) if Path(name).is_relative_to(folder) else name


def with_base(found: Found, base: BaseOf, folder: Path) -> tuple[str, str]:
    """The base into `found.base`: how it is called, and why there is none. Raises: NotFound for one that was named and
    is not there, InvalidRequest."""
    if found.base is not None:
        return "base", ""
    if base.named and (folder / base.named).is_file():
        found.base = [files.read_metrics(folder / base.named, base.named)]
        return base.named, ""
    if base.named:
        commit, called = commit_of(base.named, folder), base.named
    elif base.branch or base.commit:
        commit, called = merge_base(base.branch, folder, base.commit), base.branch or base.commit[:12]
        if not commit:
            return "", f"this checkout does not know where it left {called}: fetch its history (fetch-depth: 0)"
    else:
        return "", "this is no pull request, so there is none by default"
    found.base = metrics_at(commit, [source.name for source in found.metrics], folder)
    return called, "" if found.base else f"{called} had none of these files"


def gates_of(texts: Sequence[str], suites: Sequence[Suite]) -> list[Gate]:
    """The user's, and what is implied by JUnit files for what the user says nothing about. Raises: InvalidRequest."""
    gates = [parse(text) for text in texts]
    spoken = {name for gate in gates for name in gate.names}
    implied = [parse(text) for text in IMPLIED] if suites else []
    return gates + [gate for gate in implied if gate.metric not in spoken]


def judged(gates: Iterable[Gate], found: Found, why_no_base: str) -> list[Verdict]:
    """All of them, whatever fails. Raises: NotFound, InvalidRequest."""
    now = [*found.metrics, *_of_junit(found.suites)]
    return [judge(gate, _finder(now), _base_finder(gate, found.base or [], why_no_base)) for gate in gates]


def _of_junit(suites: Sequence[Suite]) -> list[Source]:
    if not suites:
        return []
    counts = ("tests", "failures", "errors", "skipped")
    values = {f"junit.{name}": float(sum(getattr(suite, name) for suite in suites)) for name in counts}
    return [Source("junit", {**values, "junit.time": sum(suite.time_s for suite in suites)})]


def _finder(sources: Sequence[Source]) -> Callable[[str], float]:
    return lambda name: find(sources, name)


def _base_finder(gate: Gate, sources: Sequence[Source], why_none: str) -> Callable[[str], float]:
    def look(name: str) -> float:
        if not sources:
            raise NotFound(f"{gate.text}: there is no base: {why_none}", hint="name a file or commit with --base")
        try:
            return find(sources, name)
        except NotFound as error:
            if ":" in name:
                return look(name.partition(":")[2])
            raise NotFound(f"the base of {gate.text}: {error.message}", hint=error.hint) from error

    return look


def metrics_needed(gates: Sequence[Gate]) -> list[str]:
    """Names that no JUnit file gives."""
    return [name for gate in gates for name in gate.names if not name.startswith("junit.")]


def check_metrics(gates: Sequence[Gate], found: Found) -> None:
    """Raises: NotFound when gates need metrics and there is no file at all; InvalidRequest when there is no gate."""
    if not gates:
        raise InvalidRequest(
            "nothing to judge", hint="name gates with --metric 'NAME >= NUMBER', or tests with --junit"
        )
    if metrics_needed(gates) and not found.metrics:
        raise NotFound("there is no metrics.json here", hint="name files with --metrics")
