"""What the end of an attempt that was a forge's runner means for its job."""

from __future__ import annotations

from dataclasses import replace

import pytest

from provisioner.domain.facts import AttemptReport, RunnerTold
from provisioner.domain.forge import parse_site
from provisioner.domain.job import JobSpec, Reason, RunnerSpec, Why
from provisioner.domain.runners import RunnerRow
from provisioner.engine.verdicts import Trial, judge

from .test_attempts import NOW, short, trial

SITE = parse_site("https://github.com/octo/repo", {"github.com": "github"})


def runner(*, jobs: str = "one", removed: Why = Why.NONE, cancel: bool = False, earlier: tuple[Why, ...] = ()) -> Trial:
    base = trial(cancel=cancel, ended=removed, earlier=earlier)
    spec = JobSpec(run=(), kind="ci-runner", runner=RunnerSpec(SITE.url, "github", ("gpu",), jobs=jobs))
    row = RunnerRow("runner-i-1", SITE, "j-1", 1, "i-1", NOW, reason=Reason(removed, "so"))
    return replace(base, job=replace(base.job, spec=spec), runner=row)


def told(exit_code: int | None, why: str = "", phase: str = "waiting", jobs: int = 0) -> AttemptReport:
    return AttemptReport("j-1", 1, "ended", exit_code, why, runner=RunnerTold(phase, jobs=jobs))


SERVED = told(0, phase="done", jobs=1)
CASES = [
    ("it served its job", runner(), SERVED, "succeeded: served"),
    ("it served one of many", runner(jobs="many"), SERVED, "again, uncounted: served"),
    ("it served, and many more were cancelled", runner(jobs="many", cancel=True), SERVED, "cancelled: served"),
    ("nobody came", runner(removed=Why.IDLE), told(None, "cancelled"), "expired: idle"),
    (
        "nobody came any more",
        runner(jobs="many", removed=Why.IDLE, earlier=(Why.SERVED,)),
        told(1),
        "succeeded: idle",
    ),
    ("it was cancelled while it waited", runner(cancel=True), told(None, "cancelled"), "cancelled: cancelled"),
    ("removed first, so that its program ended", runner(removed=Why.PREEMPTED), told(1), "again, uncounted: preempted"),
    ("its machine was stopped", runner(removed=Why.STOPPED), told(1), "again, uncounted: stopped"),
    ("its version is refused", runner(), told(7, "version-refused"), "failed: version-refused"),
    ("its program failed", runner(), told(1, "forge"), "failed: forge"),
    ("it ended, and nobody knows why", runner(), told(1), "again, uncounted: forge"),
    ("and for the fifth time", runner(earlier=(Why.FORGE,) * 4), told(1), "failed: forge"),
    ("cut short at work", runner(), told(None, "supervisor-lost", "busy", 1), "again, uncounted: supervisor-lost"),
    ("its program was not what was asked for", runner(), told(None, "rejected"), "failed: rejected"),
]


@pytest.mark.parametrize(("case", "given", "report", "expected"), CASES, ids=[row[0] for row in CASES])
def test_a_runners_end(case: str, given: Trial, report: AttemptReport, expected: str) -> None:
    assert short(judge(given, report, NOW)) == expected
