"""What `why` says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from provisioner.domain.job import Attempt, AttemptPhase, Job, JobPhase, JobSpec, Outcome, Reason, Why
from provisioner.domain.place import Ladder, Rung
from provisioner.domain.store import Event
from provisioner.web.explain import lines

from .served import OFFER

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB = Job("job-a", "ann", JobSpec(run="true", retries=2), JobPhase.QUEUED, NOW - timedelta(minutes=5), failures=1)


def test_a_waiting_job_says_for_how_long_and_what_could_be_had() -> None:
    waiting = replace(JOB, reason=Reason(Why.NO_CAPACITY, "zone a is full"))
    assert lines(waiting, [], Ladder((Rung(OFFER),)), NOW) == [
        "job-a has waited for 5 min: no-capacity: zone a is full",
        f"the best offer now is {OFFER}",
        "1 of 2 retries are used",
    ]


def test_a_ladder_without_a_rung_to_take_says_why() -> None:
    def said(*rungs: Rung, unanswered: tuple[str, ...] = ()) -> str:
        return lines(JOB, [], Ladder(rungs, unanswered), NOW)[1]

    assert said() == "no provider offers anything"
    assert said(Rung(OFFER, "no GPU", lasting=True)) == "none of the known offers could ever run it"
    assert said(Rung(OFFER, "full")) == "every offer that could run it is refused for now"
    dear = Rung(OFFER, "alone costs more than the cap", lasting=True, over_cap=True)
    assert said(dear) == "every offer that could run it costs more than the cap by itself"
    assert said(unanswered=("aws: throttled",)) == "not every provider could be asked: aws: throttled"


def test_an_exit_is_said_once() -> None:
    reason = Reason(Why.EXIT, "exit 3")
    attempt = Attempt("job-a", 1, "ins-a", AttemptPhase.ENDED, NOW, ended_at=NOW, exit_code=3, reason=reason)
    done = replace(JOB, phase=JobPhase.DONE, outcome=Outcome.FAILED, exit_code=3, reason=reason)
    assert lines(done, [attempt], None, NOW)[:2] == [
        "job-a is done, failed: exit 3",
        "attempt 1 on ins-a ended: exit 3",
    ]


def test_a_cancellation_under_way_is_said() -> None:
    running = replace(JOB, phase=JobPhase.RUNNING, attempts=1, cancel_asked_at=NOW)
    attempt = Attempt("job-a", 1, "ins-a", AttemptPhase.RUNNING, NOW)
    assert lines(running, [attempt], None, NOW)[:3] == [
        "job-a is running, attempt 1",
        "its cancellation was asked for and is under way",
        "attempt 1 is running on ins-a",
    ]


def test_an_interruption_is_told_with_its_attempt() -> None:
    attempts = [
        Attempt("job-a", n, f"ins-{n}", AttemptPhase.ENDED, NOW, ended_at=NOW, reason=Reason(Why.PREEMPTED, "so"))
        for n in (1, 2)
    ]
    events = [
        Event("instance.interrupted", NOW, "it was taken back after 9 s", "job-a", 1, "ins-1"),
        Event("attempt.interrupted", NOW, "lost: 4 s of work", "job-a", 1, "ins-1"),
        Event("attempt.ended", NOW, "so", "job-a", 1, "ins-1"),
    ]
    assert lines(replace(JOB, attempts=2), attempts, None, NOW, events)[1:5] == [
        "attempt 1 on ins-1 ended: preempted: so",
        "  it was taken back after 9 s",
        "  lost: 4 s of work",
        "attempt 2 on ins-2 ended: preempted: so",
    ]


def test_what_a_machine_printed_that_never_came_to_work_is_shown() -> None:
    printed = {"lines": ["agent.not_fetched", "again"]}
    event = Event(
        "instance.console", NOW, "boot-timeout: never heard; the last it printed", "job-a", 0, "ins-a", printed
    )
    assert lines(JOB, [], None, NOW, [event])[1:4] == [
        "ins-a never came to work: boot-timeout: never heard; the last it printed:",
        "  | agent.not_fetched",
        "  | again",
    ]
