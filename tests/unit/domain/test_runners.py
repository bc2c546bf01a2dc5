"""When a runner's record is to be removed from its forge: never while anybody says that it has a job."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from provisioner.domain.facts import RunnerTold
from provisioner.domain.forge import Runner, parse_site, serves
from provisioner.domain.job import Attempt, AttemptPhase, InstancePhase, Job, JobPhase, JobSpec, Reason, RunnerSpec, Why
from provisioner.domain.policy import Policy
from provisioner.domain.runners import RunnerFacts, RunnerRow, unwanted

NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
SITE = parse_site("https://github.com/octo/repo", {"github.com": "github"})
SPEC = JobSpec(run=(), kind="ci-runner", runner=RunnerSpec(SITE.url, "github", ("gpu",), idle_s=60.0))
JOB = Job("j-1", "ada", SPEC, JobPhase.RUNNING, NOW)
ATTEMPT = Attempt("j-1", 1, "i-1", AttemptPhase.RUNNING, NOW)
ROW = RunnerRow("runner-i-1", SITE, "j-1", 1, "i-1", NOW, online_at=NOW - timedelta(seconds=70))
FACTS = RunnerFacts(ROW, JOB, InstancePhase.READY, Reason(), ATTEMPT, None, None, None)
WAITED, FRESH = RunnerTold("waiting", idle_s=60.0), RunnerTold("waiting", idle_s=59.0)
BUSY, DONE = RunnerTold("busy", jobs=1), RunnerTold("done", jobs=1)
AT_WORK = Runner("7", "runner-i-1", online=True, busy=True)
LATE = NOW + timedelta(days=1)
CANCELLED = replace(JOB, cancel_asked_at=NOW)
DRAINING = {"phase": InstancePhase.DRAINING, "leaving": Reason(Why.STOPPED, "asked to stop")}

CASES = [
    ("it waits", {"told": FRESH}, ""),
    ("it has waited for long enough", {"told": WAITED}, "idle"),
    ("nobody says what it does", {}, ""),
    ("it was not seen online yet", {"told": WAITED, "row": replace(ROW, online_at=None)}, ""),
    ("it was seen online lately", {"told": WAITED, "row": replace(ROW, online_at=NOW - timedelta(seconds=59))}, ""),
    ("it is never seen", {"told": RunnerTold("waiting", 960.0), "row": replace(ROW, online_at=None)}, "idle"),
    (
        "the clock was set back since",
        {"told": RunnerTold("waiting", 960.0), "row": replace(ROW, online_at=LATE)},
        "idle",
    ),
    ("its forge says that it works", {"told": WAITED, "seen": AT_WORK}, ""),
    ("its forge refused to remove it just now", {"told": WAITED, "refused_at": NOW - timedelta(seconds=5)}, ""),
    ("its forge refused to remove it long ago", {"told": WAITED, "refused_at": NOW - timedelta(seconds=500)}, "idle"),
    ("cancelled while it waits", {"job": CANCELLED, "told": FRESH}, "cancelled"),
    ("cancelled, and nobody says what it does", {"job": CANCELLED}, "cancelled"),
    ("cancelled at work", {"job": CANCELLED, "told": BUSY}, ""),
    ("its machine is to end", {"told": FRESH, **DRAINING}, "stopped"),
    ("its machine is to end, and it works", {"told": BUSY, **DRAINING}, ""),
    ("its program says that it is done, the forge not yet", {"told": DONE, "seen": AT_WORK, **DRAINING}, "stopped"),
    ("its attempt has ended", {"attempt": None}, "not-needed"),
    ("its attempt has ended, and the forge thinks that it works", {"attempt": None, "seen": AT_WORK}, "not-needed"),
    ("its job is deleted", {"attempt": None, "job": None}, "not-needed"),
    ("it is gone", {"attempt": None, "row": replace(ROW, gone_at=NOW)}, ""),
]


@pytest.mark.parametrize(("case", "changes", "expected"), CASES, ids=[row[0] for row in CASES])
def test_whether_its_record_is_to_go(case: str, changes: dict[str, object], expected: str) -> None:
    reason = unwanted(replace(FACTS, **changes), NOW, Policy())  # type: ignore[arg-type]
    assert (str(reason.why) if reason else "") == expected


def test_a_runner_serves_jobs_whose_labels_it_has_whatever_their_case() -> None:
    assert serves(("GPU", "linux", "run-1"), ("gpu", "run-1"))
    assert not serves(("gpu",), ("gpu", "run-1"))
