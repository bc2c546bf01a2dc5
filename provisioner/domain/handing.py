"""Machines handed over to themselves: a CI step's own controller ends with the step, and its runners go on without one.

Pure, but for the port. What is handed over, whether it may be, and whether it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import ROUND_UP, Decimal
from typing import Any, Protocol

from .job import Attempt, Instance, JobSpec
from .policy import Policy
from .span import LONGEST_S

TAG = "handed-over"  # on a machine that no controller decides about any more
PROVIDERS = ("local", "aws")  # those whose machines can end themselves, and be left to do so
_EXITS = "exit"
_CENTS = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class HandOver:
    """What a machine is to go by, in seconds: it ends when the attempt's runner has, which is asked to once it has
    waited `idle_s` for a job or has had one for `job_s`, or once the machine has lived for `lifetime_s`; `grace_s`
    later at the latest."""

    job_id: str
    number: int
    idle_s: float
    lifetime_s: float
    job_s: float
    grace_s: float


@dataclass(frozen=True, slots=True)
class HandedOver:
    """What an agent has on its disk of it."""

    order: HandOver
    runner: str
    on_end: str


def refusal(spec: JobSpec) -> str:
    """Why a job cannot be left to its machine; "" when it can."""
    if spec.runner is None:
        return "only a CI runner can"
    if spec.runner.jobs != "one":
        return "--jobs many cannot: each job's runner is made by a controller"
    for asked, what in ((spec.outputs, "outputs"), (spec.checkpoint, "checkpoint"), (spec.retries, "retries")):
        if asked:
            return f"{what} cannot: nobody would be there for it"
    return ""


def unfit(providers: tuple[str, ...]) -> str:
    """Which of the providers that a job names cannot; "" when all can."""
    return next((name for name in providers if name not in PROVIDERS), "")


def hand_over(attempt: Attempt, instance: Instance, spec: JobSpec, policy: Policy) -> HandOver:
    """The same however often it is asked for. The machine's own count begins no later than `ready_at`, and everything
    is over when the whole lifetime is, from the launch on."""
    began = instance.launched_at or instance.created_at
    booted_s = max(0.0, ((instance.ready_at or began) - began).total_seconds())
    lives_s = min(instance.max_lifetime_s, LONGEST_S) - booted_s
    grace_s = min(2 * policy.cancel_grace_s, lives_s / 4) if lives_s > 0 else 0.0
    lifetime_s = max(0.0, lives_s - grace_s)
    runner = spec.runner
    return HandOver(
        job_id=attempt.job_id,
        number=attempt.number,
        idle_s=runner.idle_s if runner else 0.0,
        lifetime_s=lifetime_s,
        job_s=spec.timeout_s if spec.timeout_s is not None else lifetime_s,
        grace_s=grace_s,
    )


def unattended(policy: Policy, idle_s: float) -> Policy:
    """For machines whose controller may be gone for good before it has handed them over: without one they are gone
    within `idle_s`, what runs there ended before. Never so soon that one answer which was lost would end them."""
    bound_s = max(idle_s, 2 * (policy.agent_poll_s + policy.agent_answer_s))
    grace_s = min(policy.hold_unsent_s, 2 * policy.cancel_grace_s, bound_s / 4)
    return replace(
        policy,
        agent_silence_s=min(policy.agent_silence_s, bound_s),
        orphan_s=min(policy.orphan_s, bound_s - grace_s),
        hold_unsent_s=grace_s,
    )


def acknowledged(asked: HandOver, said: HandedOver | None, provider: str) -> bool:
    """Whether the machine is on its own now: by what was asked, and with an end that ends what was rented."""
    return said is not None and said.order == asked and (provider == "local" or said.on_end != _EXITS)


@dataclass(frozen=True, slots=True)
class Handing:
    """How far a job's machine is: `waits` until its runner is online, `asked`, `alone`, or `over` when it has served
    its job before. `at_most_usd` is None where the price is not known."""

    state: str
    job_id: str
    machine: str = ""
    ref: str = ""
    offer: str = ""
    runner: str = ""
    usd_per_hour: Decimal | None = None
    lifetime_s: float = 0.0
    at_most_usd: Decimal | None = None
    ends_at: datetime | None = None


def told(state: str, attempt: Attempt, instance: Instance, runner: str) -> Handing:
    """With the upper bound: the price, for as long as it may live, or the least that one start costs."""
    began, price = instance.launched_at or instance.created_at, instance.offer.usd_per_hour
    lives_s = min(instance.max_lifetime_s, LONGEST_S)
    billed_s = max(lives_s, instance.offer.billed_minimum_s)
    return Handing(
        state=state,
        job_id=attempt.job_id,
        machine=instance.name,
        ref=instance.ref,
        offer=str(instance.offer),
        runner=runner,
        usd_per_hour=price,
        lifetime_s=lives_s,
        at_most_usd=None if price is None else (price * Decimal(str(billed_s)) / 3600).quantize(_CENTS, ROUND_UP),
        ends_at=began + timedelta(seconds=lives_s),
    )


def left_alone(tags: Mapping[str, Any]) -> bool:
    """Whether a machine with these tags is nobody's to decide about before its `expires-at`."""
    return TAG in tags


class HandOvers(Protocol):
    """What a step's own controller does for the command that started it."""

    async def ask(self, job_id: str) -> Handing:
        """Asked for, again and again, until it is alone. Raises: RequestError, ProviderError; Conflict, too, where the
        job has ended and its runner served none."""
        ...

    async def alone(self, job_id: str) -> bool:
        """Whether the job's machine has acknowledged."""
        ...
