"""What is decided, phase by phase: one row a case, the facts that differ from a healthy machine at work on the left."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.domain.decide import Action, Advance, Launch, Terminate, Wait, decide
from provisioner.domain.facts import Absent, AttemptReport, Demand, Facts, GivenUp, Report, Seen, Sighting, Unknown
from provisioner.domain.job import Instance, InstancePhase, Reason, Why
from provisioner.domain.offer import Machine, MachineState, Market, Offer
from provisioner.domain.policy import Policy

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
POLICY = Policy()
P = InstancePhase
OFFER = Offer("sim", "north", "north-1", "g1", Market.ON_DEMAND, Decimal("1.20"), "a test", "north", 8, 32.0, 200.0)
SPOT = replace(OFFER, market=Market.SPOT)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def shown(seconds: float) -> Demand:
    """At work, as a forge showed it so long ago."""
    return Demand(live_attempts=1, runners=1, at_work_at=ago(seconds))


def instance(phase: InstancePhase, seconds: float = 10, **changes: object) -> Instance:
    asked = phase not in (P.PLANNED, P.LAUNCHING)
    row = Instance(
        id="i-1",
        name="runner-i-1",
        owner="ada",
        phase=phase,
        offer=OFFER,
        created_at=ago(seconds + 100),
        phase_at=ago(seconds),
        ref="m-1" if asked else "",
        launch_calls=1 if asked else 0,
        launched_at=ago(seconds + 50) if asked else None,
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def seen(state: MachineState = MachineState.RUNNING) -> Sighting:
    return Seen(Machine("m-1", "runner-i-1", "c-1", "north", state, ago(100)))


def absent(latest: float, since: float | None = None) -> Sighting:
    return Absent(ago(latest if since is None else since), ago(latest))


ENDED = Absent(ago(1), ago(1), ended=True)


def heard(seconds: float = 1, **changes: object) -> Report:
    return replace(Report(heard_at=ago(seconds)), **changes)  # type: ignore[arg-type]


WANTED = Demand(planned_for_waits=True)
WORKING = Demand(live_attempts=1)
NOBODY = Demand()
AT_WORK = (AttemptReport("j-1", 1, "running"),)


def act(
    row: Instance,
    machine: Sighting | None = None,
    report: Report | None = None,
    demand: Demand = WANTED,
    **more: object,
) -> Action:
    facts = Facts(row, machine or Unknown(), report, demand, listening_since=ago(5000), visibility_s=30.0)
    return decide(replace(facts, **more), NOW, POLICY)  # type: ignore[arg-type]


def said(action: Action) -> str:
    match action:
        case Wait():
            return "wait"
        case Launch():
            return "launch"
        case Terminate():
            return "terminate"
        case Advance(to, reason):
            return f"{to} {reason.why}".strip()


CASES: list[tuple[str, Action, str]] = [
    ("a plan that is wanted", act(instance(P.PLANNED)), "launching"),
    ("a plan that nobody wants any more", act(instance(P.PLANNED), demand=NOBODY), "gone not-needed"),
    ("a plan that was asked to stop", act(instance(P.PLANNED, stop_asked_at=ago(1))), "gone stopped"),
    ("a plan at a paused provider", act(instance(P.PLANNED), creates_paused=True), "wait"),
    ("a plan at one paused for long", act(instance(P.PLANNED, 301), creates_paused=True), "gone no-capacity"),
    ("not asked for yet", act(instance(P.LAUNCHING)), "launch"),
    ("asked for, no answer", act(instance(P.LAUNCHING, launch_calls=1)), "launch"),
    ("asked for, the answer lost, shown", act(instance(P.LAUNCHING, launch_calls=1), seen()), "booting"),
    ("its agent is heard before it is shown", act(instance(P.LAUNCHING, launch_calls=1), report=heard()), "booting"),
    ("shown as it stops", act(instance(P.LAUNCHING, ref="m"), seen(MachineState.STOPPED)), "stopping lost"),
    ("launched, not shown yet", act(instance(P.LAUNCHING, ref="m", launched_at=ago(9)), absent(1)), "wait"),
    ("launched, never shown", act(instance(P.LAUNCHING, 40, ref="m", launched_at=ago(35)), absent(1)), "stopping lost"),
    ("launched late in a queue", act(instance(P.LAUNCHING, 400, ref="m", launched_at=ago(9)), absent(1)), "wait"),
    ("no answer for too long", act(instance(P.LAUNCHING, 301, launch_calls=9)), "stopping launch-timeout"),
    ("unwanted before it was asked for", act(instance(P.LAUNCHING), demand=NOBODY), "gone not-needed"),
    (
        "unwanted once it was asked for",
        act(instance(P.LAUNCHING, launch_calls=1), demand=NOBODY),
        "stopping not-needed",
    ),
    ("booting", act(instance(P.BOOTING), seen()), "wait"),
    ("heard", act(instance(P.BOOTING), seen(), heard()), "ready"),
    ("heard, and unhealthy", act(instance(P.BOOTING), seen(), heard(healthy=False)), "stopping unhealthy"),
    (
        "its script failed",
        act(instance(P.BOOTING), seen(), heard(healthy=False, unhealthy_code="script-failed")),
        "stopping script-failed",
    ),
    ("never heard", act(instance(P.BOOTING, 901), seen()), "stopping boot-timeout"),
    ("booting for nobody", act(instance(P.BOOTING), seen(), demand=NOBODY), "stopping not-needed"),
    ("booting for another who waits", act(instance(P.BOOTING), seen(), demand=Demand(waiting=1)), "wait"),
    ("gone while it boots", act(instance(P.BOOTING), absent(1)), "stopping lost"),
    ("out of sight for a moment", act(instance(P.BOOTING, launched_at=ago(20)), absent(1)), "wait"),
    ("at work", act(instance(P.READY), seen(), heard(attempts=AT_WORK), WORKING), "wait"),
    ("at work says only the store", act(instance(P.READY), seen(), heard(), WORKING), "wait"),
    ("at work says only the agent", act(instance(P.READY), seen(), heard(attempts=AT_WORK), NOBODY), "wait"),
    ("results not sent yet", act(instance(P.READY), seen(), heard(unsent_bytes=1), NOBODY), "wait"),
    ("somebody waits whom it fits", act(instance(P.READY), seen(), heard(), Demand(waiting=1)), "wait"),
    ("the listing fails while it works", act(instance(P.READY), Unknown(), heard(), WORKING), "wait"),
    ("never had work, a moment ago", act(instance(P.READY, 1), seen(), heard(), NOBODY), "wait"),
    ("never had work", act(instance(P.READY, 3), seen(), heard(), NOBODY), "draining idle"),
    ("its work just ended", act(instance(P.READY), seen(), heard(), Demand(last_busy_at=NOW)), "draining idle"),
    (
        "its work just ended, and it is kept warm",
        act(instance(P.READY, idle_timeout_s=60), seen(), heard(), Demand(last_busy_at=ago(59))),
        "wait",
    ),
    (
        "kept warm for long enough",
        act(instance(P.READY, 99, idle_timeout_s=60), seen(), heard(), Demand(last_busy_at=ago(60))),
        "draining idle",
    ),
    ("not heard since we began to listen", act(instance(P.READY, 99), seen(), None, NOBODY), "wait"),
    ("silent", act(instance(P.READY, 999), seen(), heard(181), WORKING), "stopping lost"),
    ("silent, and a forge shows it at work", act(instance(P.READY, 999), seen(), heard(900), shown(179)), "wait"),
    ("its forge shows it no more", act(instance(P.READY, 999), seen(), heard(900), shown(181)), "stopping lost"),
    ("longer than an agent bears", act(instance(P.READY, 3999), seen(), heard(3601), shown(1)), "stopping lost"),
    ("draining in silence, at work", act(instance(P.DRAINING, 300), seen(), heard(300), shown(9)), "wait"),
    (
        "silent, while nobody listened",
        act(instance(P.READY, 999), seen(), heard(900), WORKING, listening_since=ago(100)),
        "wait",
    ),
    ("asked to stop at work", act(instance(P.READY, stop_asked_at=NOW), seen(), heard(), WORKING), "draining stopped"),
    ("a notice", act(instance(P.READY), seen(), heard(notice="2 min"), WORKING), "draining preempted"),
    ("at work for all its life", act(instance(P.READY, 43200), seen(), heard(), WORKING), "draining lifetime"),
    ("unhealthy and idle", act(instance(P.READY), seen(), heard(healthy=False), WANTED), "draining unhealthy"),
    ("unhealthy at work", act(instance(P.READY), seen(), heard(healthy=False), WORKING), "wait"),
    ("taken away", act(instance(P.READY, offer=SPOT), absent(1), heard(), WORKING), "stopping preempted"),
    ("stopped by the cloud", act(instance(P.READY), seen(MachineState.STOPPED), heard(), WORKING), "stopping lost"),
    ("draining, results go up", act(instance(P.DRAINING), seen(), heard(), NOBODY), "wait"),
    ("drained", act(instance(P.DRAINING), seen(), heard(drained=True), NOBODY), "stopping"),
    ("drained, says only the agent", act(instance(P.DRAINING), seen(), heard(drained=True), WORKING), "wait"),
    ("it does not drain", act(instance(P.DRAINING, 601), seen(), heard(), WORKING), "stopping"),
    ("it does not drain in time", act(instance(P.DRAINING, 111), seen(), heard(notice="2 min"), WORKING), "stopping"),
    ("nothing terminated yet", act(instance(P.STOPPING), seen()), "terminate"),
    (
        "terminated, still shown",
        act(instance(P.STOPPING, terminated_at=ago(9), terminate_calls=1), seen(MachineState.STOPPING)),
        "wait",
    ),
    (
        "terminated, shown for too long",
        act(instance(P.STOPPING, terminated_at=ago(16), terminate_calls=1), seen()),
        "terminate",
    ),
    (
        "terminated, and the listings fail",
        act(instance(P.STOPPING, terminated_at=ago(16), terminate_calls=1), Unknown()),
        "terminate",
    ),
    ("absent before any terminate", act(instance(P.STOPPING, 99), absent(1)), "terminate"),
    (
        "absent, not for long enough",
        act(instance(P.STOPPING, 99, terminated_at=ago(20), terminate_calls=1), absent(1)),
        "wait",
    ),
    ("absent", act(instance(P.STOPPING, 99, terminated_at=ago(40), terminate_calls=1), absent(1)), "gone"),
    (
        "said to have ended, a moment after the terminate",
        act(instance(P.STOPPING, 3, terminated_at=ago(2), terminate_calls=1), ENDED),
        "gone",
    ),
    ("said to have ended before any terminate", act(instance(P.STOPPING, 3), ENDED), "terminate"),
    ("said to have ended as it was launched", act(instance(P.LAUNCHING, launch_calls=1), ENDED), "stopping lost"),
    ("said to have ended while it boots", act(instance(P.BOOTING, launched_at=ago(5)), ENDED), "stopping lost"),
    (
        "said to have ended at work",
        act(instance(P.READY, launched_at=ago(5)), ENDED, heard(), WORKING),
        "stopping lost",
    ),
    ("gone", act(instance(P.GONE)), "wait"),
]


@pytest.mark.parametrize(("case", "action", "expected"), CASES, ids=[case for case, _, _ in CASES])
def test_decide(case: str, action: Action, expected: str) -> None:
    assert said(action) == expected


@pytest.mark.parametrize("phase", [phase for phase in P if phase is not P.GONE])
def test_what_was_given_up_is_gone_whatever_else_is_known(phase: InstancePhase) -> None:
    row = instance(phase, stop_asked_at=ago(1))
    action = act(row, GivenUp("ann has given it up"), heard(attempts=AT_WORK, notice="soon"), WORKING)
    assert action == Advance(P.GONE, Reason(Why.GIVEN_UP, "ann has given it up"))


def test_a_clock_that_was_set_back_does_not_make_a_machine_immortal() -> None:
    """Its phase seems to begin in the future: time then counts from when listening began anew."""
    row = instance(P.BOOTING, -3600)
    assert said(act(row, seen(), listening_since=ago(10))) == "wait"
    assert said(act(row, seen(), listening_since=ago(901))) == "stopping boot-timeout"


def test_a_clock_that_was_set_forward_does_not_make_a_machine_old() -> None:
    row = instance(P.READY, 43_000)
    skipped = ((ago(20_000), 40_000.0),)
    assert said(act(row, seen(), heard(attempts=AT_WORK), WORKING, skipped=())) == "wait"
    old = instance(P.READY, 43_300)
    assert said(act(old, seen(), heard(attempts=AT_WORK), WORKING)) == "draining lifetime"
    assert said(act(old, seen(), heard(attempts=AT_WORK), WORKING, skipped=skipped)) == "wait"


def test_a_wait_ends_when_the_next_thing_could_be_due() -> None:
    action = act(instance(P.READY, 100, idle_timeout_s=60), seen(), heard(), Demand(last_busy_at=ago(20)))
    assert action == Wait(NOW + timedelta(seconds=40))


_MOMENTS = st.integers(0, 30).map(lambda n: ago(n * 30.0))
_SIGHTINGS = st.one_of(
    st.just(Unknown()),
    st.just(GivenUp("so")),
    st.sampled_from(MachineState).map(seen),
    st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda t: absent(min(t) * 10.0, max(t) * 10.0)),
)


@settings(max_examples=500, deadline=None)
@given(
    phase=st.sampled_from(InstancePhase),
    seconds=st.sampled_from((0, 30, 60, 90, 300, 900)),
    machine=_SIGHTINGS,
    report=st.none() | st.builds(heard, st.sampled_from((0, 30, 60, 90, 300)), notice=st.sampled_from(("", "soon"))),
    demand=st.sampled_from((WANTED, WORKING, NOBODY, Demand(last_busy_at=ago(60)))),
    limit_s=st.sampled_from((30.0, 60.0, 300.0)),
    listening=_MOMENTS,
    paused=st.booleans(),
    calls=st.integers(0, 2),
)
def test_a_wait_is_for_later(
    phase: InstancePhase,
    seconds: float,
    machine: Sighting,
    report: Report | None,
    demand: Demand,
    limit_s: float,
    listening: datetime,
    paused: bool,
    calls: int,
) -> None:
    """One that ends now would be waited for again at once, for as long as this moment lasts."""
    row = instance(phase, seconds, max_lifetime_s=limit_s, idle_timeout_s=limit_s, terminate_calls=calls)
    row = replace(row, terminated_at=ago(seconds) if calls else None)
    facts = Facts(row, machine, report, demand, listening_since=listening, visibility_s=30.0, creates_paused=paused)
    policy = replace(POLICY, silence_s=90.0, drain_s=60.0, boot_timeout_s=90.0)
    now = NOW
    for _ in range(4):
        action = decide(facts, now, policy)
        if not isinstance(action, Wait) or action.until.year == 9999:
            break
        assert action.until > now
        now = action.until
