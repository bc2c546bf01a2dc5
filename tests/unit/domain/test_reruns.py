"""Which CI jobs are to be run again, what waits for it, and how long."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from provisioner.domain.facts import AttemptReport, RunnerTold
from provisioner.domain.forge import CiJob, CiJobState, ForgeKind, Site
from provisioner.domain.job import (
    Attempt,
    AttemptPhase,
    Instance,
    InstancePhase,
    Job,
    JobPhase,
    JobSpec,
    Reason,
    RunnerSpec,
    Why,
)
from provisioner.domain.offer import Market, Offer
from provisioner.domain.policy import Policy
from provisioner.domain.reruns import (
    Rerun,
    RerunOutcome,
    believable,
    cut_short,
    given_up,
    held_back,
    losses_before,
    taken_away,
    too_late,
    unneeded,
)
from provisioner.domain.runners import RunnerFacts, RunnerRow, unwanted

AT = datetime(2026, 1, 1, tzinfo=UTC)
SITE = Site(ForgeKind("github"), "https://github.com", "octo/repo")
ROW = RunnerRow("runner-i-1", SITE, "j-1", 1, "i-1", AT, online_at=AT, busy_at=AT)
WISH = Rerun("runner-i-1", SITE, "j-1", 1, ci_id="9", ci_attempt=1, lost_at=AT)
_PREEMPTED, _LOST = Reason(Why.PREEMPTED), Reason(Why.LOST)


def job(jobs: str = "one", name: str = "", cancelled: bool = False) -> Job:
    spec = JobSpec(run=(), name=name, kind="ci-runner", runner=RunnerSpec(SITE.url, "github", ("gpu",), jobs=jobs))
    return Job("j-1", "ada", spec, JobPhase.QUEUED, AT, cancel_asked_at=AT if cancelled else None)


def instance(why: Why = Why.PREEMPTED, stopped: bool = False) -> Instance:
    offer = Offer("sim", "r", "", "s", Market.SPOT, None, "", "sim", 1, 1.0, 10)
    one = Instance("i-1", "runner-i-1", "ada", InstancePhase.GONE, offer, AT, AT, reason=Reason(why))
    return replace(one, stop_asked_at=AT if stopped else None)


def told(phase: str) -> AttemptReport:
    return AttemptReport("j-1", 1, "ended", runner=RunnerTold(phase))


@pytest.mark.parametrize(
    ("reason", "report", "lost"),
    [
        (_PREEMPTED, told("busy"), True),
        (Reason(Why.SUPERVISOR_LOST), told("busy"), True),
        (_LOST, None, True),
        (_PREEMPTED, told("waiting"), True),
        (_PREEMPTED, AttemptReport("j-1", 1, "ended", runner=RunnerTold("waiting", jobs=1)), False),
        (Reason(Why.SERVED), told("done"), False),
        (Reason(Why.TIMEOUT), told("busy"), False),
        (Reason(Why.LIFETIME), None, False),
        (Reason(Why.STOPPED), told("busy"), False),
    ],
)
def test_what_its_machine_cut_short_is_run_again(reason: Reason, report: AttemptReport | None, lost: bool) -> None:
    assert cut_short(job(), instance(), ROW, reason, report, begun=False) is lost


def test_what_a_person_ended_is_not_run_again() -> None:
    assert not cut_short(job(cancelled=True), instance(), ROW, _PREEMPTED, told("busy"), begun=False)
    assert not cut_short(job(), instance(Why.STOPPED, stopped=True), ROW, _LOST, None, begun=False)


def test_a_machine_that_failed_is_nobodys_will() -> None:
    assert cut_short(job(), instance(Why.UNHEALTHY), ROW, Reason(Why.STOPPED), told("busy"), begun=False)


@pytest.mark.parametrize("report", [None, told("waiting")])
def test_what_only_a_webhook_told_of_was_cut_short_too(report: AttemptReport | None) -> None:
    assert cut_short(job(), instance(), replace(ROW, busy_at=None), _PREEMPTED, report, begun=True)
    assert not cut_short(job(), instance(), replace(ROW, busy_at=None), _PREEMPTED, told("done"), begun=True)


def test_a_runner_that_was_never_seen_at_work_lost_nothing() -> None:
    assert not cut_short(job(), instance(), replace(ROW, busy_at=None), _LOST, None, begun=False)
    assert not cut_short(job(), instance(), None, _LOST, None, begun=False)


@pytest.mark.parametrize(
    ("path", "repository", "run_id", "can_be"),
    [
        ("octo/repo", "octo/repo", "77", True),
        ("octo", "Octo/repo", "77", True),
        ("", "team/vision/train", "77", True),
        ("octo/repo", "octo/repository", "77", False),
        ("octo", "other/repo", "77", False),
        ("octo", "octo/../other/repo", "77", False),
        ("octo/repo", "octo/repo", "77/../78", False),
        ("octo/repo", "octo/repo", "", False),
    ],
)
def test_a_machine_is_not_believed_what_its_runner_cannot_have_had(
    path: str, repository: str, run_id: str, can_be: bool
) -> None:
    assert believable(replace(SITE, path=path), repository, run_id) is can_be


def test_only_what_serves_one_job_gets_no_machine_before_its_rerun() -> None:
    assert held_back(job())
    assert not held_back(job("many"))
    assert not held_back(job(name="pool/gpu"))
    assert not held_back(job(cancelled=True))


def test_it_is_given_up_with_its_runner_unless_others_of_a_pool_serve_it() -> None:
    assert given_up(job(cancelled=True))
    assert given_up(replace(job(), phase=JobPhase.DONE))
    assert not given_up(job())
    assert not given_up(job(name="pool/gpu", cancelled=True))


@pytest.mark.parametrize(
    ("state", "conclusion", "attempt", "outcome"),
    [
        (CiJobState.RUNNING, "", 1, RerunOutcome.NONE),
        (CiJobState.DONE, "failure", 1, RerunOutcome.NONE),
        (CiJobState.DONE, "cancelled", 1, RerunOutcome.NONE),
        (CiJobState.DONE, "success", 1, RerunOutcome.NOT_NEEDED),
        (CiJobState.QUEUED, "", 2, RerunOutcome.ASKED),
    ],
)
def test_one_that_ended_well_or_runs_again_already_is_left_alone(
    state: CiJobState, conclusion: str, attempt: int, outcome: RerunOutcome
) -> None:
    ci = CiJob("9", SITE, SITE.path, state, ("gpu",), AT, attempt=attempt, conclusion=conclusion)
    assert unneeded(WISH, ci) is outcome


def test_pauses_grow_to_their_bound_and_it_is_tried_for_so_long() -> None:
    policy = Policy(retry_backoff_s=2.0, retry_backoff_max_s=300.0, rerun_within_s=3600.0)
    assert [policy.pause_s(tries) for tries in (0, 1, 5, 9000)] == [2.0, 4.0, 64.0, 300.0]
    assert not too_late(WISH, AT + timedelta(seconds=3600), policy)
    assert too_late(WISH, AT + timedelta(seconds=3601), policy)


def test_a_runner_that_waits_for_a_rerun_is_not_idle_until_it_could_have_come() -> None:
    """Its limit is 600 s, and it has waited for 900."""
    attempt = Attempt("j-1", 2, "i-1", AttemptPhase.RUNNING, AT)
    facts = RunnerFacts(
        ROW, job("many"), InstancePhase.READY, Reason(), attempt, RunnerTold("waiting", 900.0), None, None
    )
    now, policy = AT + timedelta(hours=2), Policy()
    assert unwanted(facts, now, policy) == Reason(Why.IDLE, "no job came within 600 s")
    assert unwanted(replace(facts, idle_from=now), now, policy) is None
    assert unwanted(replace(facts, idle_from=now - timedelta(seconds=599)), now, policy) is None
    assert unwanted(replace(facts, idle_from=now - timedelta(seconds=600)), now, policy) is not None


@pytest.mark.parametrize(
    ("case", "whys", "lost", "expected"),
    [
        ("its spot machine was taken back", (Why.PREEMPTED,), (), 1),
        ("its machine vanished", (Why.LOST,), (), 1),
        ("it served, and nobody took anything", (Why.SERVED, Why.FORGE), (), 0),
        ("its machine was found broken at work", (Why.STOPPED,), (1,), 1),
        ("one machine counts once", (Why.PREEMPTED, Why.SUPERVISOR_LOST), (1, 2), 2),
    ],
)
def test_what_was_taken_from_a_runner(case: str, whys: tuple[Why, ...], lost: tuple[int, ...], expected: int) -> None:
    attempts = [
        Attempt("j-1", n, f"i-{n}", AttemptPhase.ENDED, AT, reason=Reason(why)) for n, why in enumerate(whys, 1)
    ]
    reruns = [replace(WISH, number=n) for n in lost] + [replace(WISH, number=9, lost_at=None)]
    assert taken_away(job(), attempts, reruns) == expected


def test_of_a_command_only_what_was_taken_back_counts() -> None:
    plain = Job("j-1", "ada", JobSpec(run="x"), JobPhase.QUEUED, AT)
    ends = [Attempt("j-1", n, "i", AttemptPhase.ENDED, AT, reason=why) for n, why in enumerate((_LOST, _PREEMPTED))]
    assert taken_away(plain, ends, ()) == 1


_LAST = replace(WISH, repository="octo/repo", run_id="77", ci_name="train", outcome=RerunOutcome.ASKED)


def again(attempt: int = 2, key: str = "19", name: str = "train") -> CiJob:
    return CiJob(key, SITE, "Octo/repo", CiJobState.QUEUED, ("gpu",), AT, "77", attempt, name)


@pytest.mark.parametrize(
    ("job", "losses"),
    [
        (again(), 1),
        (again(attempt=3), 1),
        (again(attempt=1), 1),
        (again(name="test"), 0),
        (again(attempt=1, key="9"), 0),
    ],
)
def test_a_job_of_a_run_knows_the_machines_that_were_lost_with_it(job: CiJob, losses: int) -> None:
    assert losses_before(job, [_LAST]) == losses


def test_only_what_was_cut_short_counts() -> None:
    first, waits = _LAST, replace(_LAST, ci_id="19", ci_attempt=2, outcome=RerunOutcome.NONE)
    assert losses_before(again(attempt=3), [first, waits]) == 2
    others = [
        replace(first, lost_at=None),
        replace(first, ci_id=""),
        replace(first, run_id="78"),
        replace(first, repository="octo/other"),
        replace(first, site=replace(SITE, base="https://git.example.org")),
        replace(first, outcome=RerunOutcome.NOT_NEEDED),
    ]
    assert losses_before(again(), others) == 0
