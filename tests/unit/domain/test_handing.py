"""What a machine is left with when its controller ends, and whether it may be."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from provisioner.domain.handing import HandedOver, HandOver, acknowledged, hand_over, refusal, told, unattended, unfit
from provisioner.domain.job import Attempt, AttemptPhase, CheckpointSpec, Instance, InstancePhase, JobSpec, RunnerSpec
from provisioner.domain.offer import Market, Offer
from provisioner.domain.policy import Policy

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
OFFER = Offer("aws", "north", "north-1", "g1", Market.SPOT, Decimal("1.05"), "t", "north", 8, 32.0, 200.0)
LAUNCHED, READY = NOW + timedelta(seconds=10), NOW + timedelta(seconds=100)
MACHINE = replace(
    Instance("i-1", "runner-i-1", "ada", InstancePhase.READY, OFFER, NOW, NOW, ref="m-1", max_lifetime_s=7200.0),
    launched_at=LAUNCHED,
    ready_at=READY,
)
ATTEMPT = Attempt("j-1", 2, "i-1", AttemptPhase.RUNNING, READY)
RUNNER = RunnerSpec("https://github.com/acme/vision", "github", ("run-1",), idle_s=300.0)
SPEC = JobSpec(run=(), kind="ci-runner", runner=RUNNER)
ORDER = HandOver("j-1", 2, idle_s=300.0, lifetime_s=7050.0, job_s=7050.0, grace_s=60.0)


def test_everything_is_over_when_its_lifetime_is_from_the_launch_on() -> None:
    """7200 s, less the 90 s before its agent began to count, less what the end may take."""
    assert hand_over(ATTEMPT, MACHINE, SPEC, Policy()) == ORDER


@pytest.mark.parametrize(
    ("idle_s", "silence_s", "orphan_s", "hold_s"),
    [
        (600.0, 600.0, 540.0, 60.0),
        (120.0, 120.0, 90.0, 30.0),
        (1.0, 110.0, 82.5, 27.5),  # two polls of 25 s whose answers take 30 s
        (86400.0, 1800.0, 3600.0, 60.0),
    ],
)
def test_without_its_controller_a_machine_is_gone_within_its_runners_idle_timeout(
    idle_s: float, silence_s: float, orphan_s: float, hold_s: float
) -> None:
    limits = unattended(Policy(), idle_s)
    assert (limits.agent_silence_s, limits.orphan_s, limits.hold_unsent_s) == (silence_s, orphan_s, hold_s)


def test_a_jobs_own_limit_is_the_jobs() -> None:
    assert hand_over(ATTEMPT, MACHINE, replace(SPEC, timeout_s=60.0), Policy()).job_s == 60.0


@pytest.mark.parametrize(("lifetime_s", "left_s", "grace_s"), [(90.0, 0.0, 0.0), (50.0, 0.0, 0.0), (94.0, 3.0, 1.0)])
def test_a_lifetime_that_is_nearly_over_is(lifetime_s: float, left_s: float, grace_s: float) -> None:
    order = hand_over(ATTEMPT, replace(MACHINE, max_lifetime_s=lifetime_s), SPEC, Policy())
    assert (order.lifetime_s, order.grace_s) == (left_s, grace_s)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (SPEC, ""),
        (replace(SPEC, runner=None), "only a CI runner can"),
        (replace(SPEC, runner=replace(RUNNER, jobs="many")), "--jobs many cannot"),
        (replace(SPEC, outputs=("a",)), "outputs cannot"),
        (replace(SPEC, checkpoint=CheckpointSpec("ckpt")), "checkpoint cannot"),
        (replace(SPEC, retries=1), "retries cannot"),
    ],
)
def test_what_needs_somebody_who_stays_cannot_be_left_alone(spec: JobSpec, why: str) -> None:
    assert refusal(spec).startswith(why)
    assert bool(refusal(spec)) is bool(why)


@pytest.mark.parametrize(("providers", "said"), [((), ""), (("local", "aws"), ""), (("aws", "hosts"), "hosts")])
def test_hosts_are_not_left_to_themselves(providers: tuple[str, ...], said: str) -> None:
    assert unfit(providers) == said


@pytest.mark.parametrize(
    ("said", "provider", "is_it"),
    [
        (None, "aws", False),
        (HandedOver(ORDER, "runner-i-1", "poweroff"), "aws", True),
        (HandedOver(replace(ORDER, idle_s=301.0), "runner-i-1", "poweroff"), "aws", False),
        (HandedOver(replace(ORDER, number=1), "runner-i-1", "poweroff"), "aws", False),
        (HandedOver(ORDER, "runner-i-1", "exit"), "aws", False),
        (HandedOver(ORDER, "runner-i-1", "exit"), "local", True),
    ],
)
def test_only_what_was_asked_with_an_end_that_ends_is_an_acknowledgement(
    said: HandedOver | None, provider: str, is_it: bool
) -> None:
    assert acknowledged(ORDER, said, provider) is is_it


@pytest.mark.parametrize(
    ("offer", "lifetime_s", "usd"),
    [
        (OFFER, 7200.0, Decimal("2.10")),
        (OFFER, 1.0, Decimal("0.01")),
        (replace(OFFER, billed_minimum_s=3600.0), 60.0, Decimal("1.05")),
        (replace(OFFER, usd_per_hour=None), 7200.0, None),
    ],
)
def test_the_upper_bound_is_rounded_up_and_never_guessed(offer: Offer, lifetime_s: float, usd: Decimal | None) -> None:
    machine = replace(MACHINE, offer=offer, max_lifetime_s=lifetime_s)
    said = told("alone", ATTEMPT, machine, "runner-i-1")
    assert said.at_most_usd == usd
    assert said.ends_at == LAUNCHED + timedelta(seconds=lifetime_s)
