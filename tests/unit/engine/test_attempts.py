"""How an attempt's end is judged, one row a case."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from provisioner.domain.facts import AttemptReport
from provisioner.domain.job import (
    Attempt,
    AttemptPhase,
    Instance,
    InstancePhase,
    Job,
    JobPhase,
    JobSpec,
    Reason,
    Why,
)
from provisioner.domain.offer import Market, Offer
from provisioner.engine.verdicts import Trial, Verdict, forgotten, judge, lost

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
OFFER = Offer("sim", "north", "north-1", "g1", Market.SPOT, Decimal("0.4"), "t", "north", 8, 32.0, 200.0)
ATTEMPT = Attempt("j-1", 1, "i-1", AttemptPhase.RUNNING, NOW - timedelta(seconds=100))


def trial(
    *,
    retries: int = 0,
    failures: int = 0,
    cancel: bool = False,
    ended: Why = Why.NONE,
    earlier: tuple[Why, ...] = (),
    its_own: bool = True,
    limit_s: float = 150.0,
) -> Trial:
    job = Job("j-1", "ada", JobSpec(run="x", retries=retries), JobPhase.RUNNING, NOW, failures=failures)
    job = replace(job, cancel_asked_at=NOW if cancel else None)
    machine = Instance("i-1", "runner-i-1", "ada", InstancePhase.GONE, OFFER, NOW, NOW, reason=Reason(ended, "so"))
    machine = replace(machine, max_lifetime_s=150.0, planned_for="j-1" if its_own else "j-0")
    before = [replace(ATTEMPT, number=n, reason=Reason(why)) for n, why in enumerate(earlier, 1)]
    return Trial(job, replace(ATTEMPT, number=len(before) + 1), machine, limit_s, before)


def told(exit_code: int | None = None, why: str = "") -> AttemptReport:
    return AttemptReport("j-1", 1, "ended", exit_code, why)


def short(verdict: Verdict) -> str:
    end = str(verdict.outcome) if verdict.outcome else "again" if verdict.counts else "again, uncounted"
    return f"{end}: {verdict.reason.why}"


LOST = Why.LOST
SUPERVISOR = Why.SUPERVISOR_LOST
CASES = [
    ("success", trial(), told(0), "succeeded: exit"),
    ("success, though cancelled too late", trial(cancel=True), told(0), "succeeded: exit"),
    ("failure", trial(), told(3), "failed: exit"),
    ("failure with a retry left", trial(retries=1), told(3), "again: exit"),
    ("failure with none left", trial(retries=1, failures=1), told(3), "failed: exit"),
    ("cancelled by its user", trial(cancel=True, retries=9), told(None, "cancelled"), "cancelled: cancelled"),
    ("timed out", trial(retries=9), told(None, "timeout"), "timed-out: timeout"),
    ("setup failed", trial(), told(1, "setup-failed"), "failed: setup-failed"),
    ("setup failed, a retry left", trial(retries=1), told(1, "setup-failed"), "again: setup-failed"),
    ("supervisor lost", trial(), told(None, "supervisor-lost"), "again, uncounted: supervisor-lost"),
    (
        "lost for the fifth time",
        trial(earlier=(SUPERVISOR,) * 4),
        told(None, "supervisor-lost"),
        "failed: supervisor-lost",
    ),
    (
        "preempted ever so often",
        trial(earlier=(Why.PREEMPTED,) * 9),
        told(None, "preempted"),
        "again, uncounted: preempted",
    ),
    ("its machine is taken", trial(ended=Why.PREEMPTED), told(None, "cancelled"), "again, uncounted: preempted"),
    ("its machine was stopped", trial(ended=Why.STOPPED), told(None, "cancelled"), "again, uncounted: stopped"),
    ("it outlived its machine", trial(ended=Why.LIFETIME), told(None, "cancelled"), "failed: lifetime"),
    (
        "it had the rest of another job's machine",
        trial(ended=Why.LIFETIME, its_own=False),
        told(None, "cancelled"),
        "again, uncounted: lifetime",
    ),
    (
        "it had nearly all of another job's machine",
        trial(ended=Why.LIFETIME, its_own=False, limit_s=120),
        told(None, "cancelled"),
        "failed: lifetime",
    ),
    (
        "another job's limit was shorter",
        trial(ended=Why.LIFETIME, its_own=False, limit_s=9000),
        told(None, "cancelled"),
        "again, uncounted: lifetime",
    ),
    (
        "it had the rest of others' machines for the fifth time",
        trial(ended=Why.LIFETIME, its_own=False, earlier=(Why.LIFETIME,) * 4),
        told(None, "cancelled"),
        "failed: lifetime",
    ),
    ("a word from a newer agent", trial(), told(None, "eaten-by-wolves"), "failed: exit"),
]


@pytest.mark.parametrize(("case", "given", "report", "expected"), CASES, ids=[row[0] for row in CASES])
def test_judge(case: str, given: Trial, report: AttemptReport, expected: str) -> None:
    assert short(judge(given, report, NOW)) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (trial(ended=Why.PREEMPTED), "again, uncounted: preempted"),
        (trial(ended=Why.STOPPED), "again, uncounted: lost"),
        (trial(ended=LOST, earlier=(LOST,) * 4), "failed: lost"),
        (trial(ended=LOST, cancel=True), "cancelled: cancelled"),
        (trial(ended=Why.LIFETIME), "failed: lifetime"),
    ],
)
def test_a_machine_that_is_gone(given: Trial, expected: str) -> None:
    verdict = lost(given, NOW)
    assert short(verdict) == expected
    assert "what it had not sent yet is lost" in verdict.reason.detail


def test_an_attempt_that_its_agent_has_lost() -> None:
    assert short(forgotten(trial())) == "again, uncounted: supervisor-lost"
    assert short(forgotten(trial(cancel=True))) == "cancelled: cancelled"


def test_what_is_noticed_late_is_not_taken_for_a_long_life() -> None:
    """Found by the soak: the controller's computer slept, long after another job's machine had ended under this one."""
    given = trial(ended=Why.LIFETIME, its_own=False, limit_s=900.0)
    assert short(lost(given, NOW + timedelta(seconds=10_000))) == "again, uncounted: lifetime"
