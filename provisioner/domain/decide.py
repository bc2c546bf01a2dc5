"""What to do about one instance, given all that is known of it: pure, total, and the same whoever calls it.

`decide` returns one `Action`; `engine.act` carries it out and the next call sees what came of it. Guard clauses stand
in order of priority: what the cloud says before what the agent says, an end that was asked for before one that is due.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from .facts import Absent, Facts, Seen
from .job import NO_REASON, InstancePhase, Reason, Why
from .offer import MachineState
from .policy import Policy


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before `until`, unless something is heard earlier."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Advance:
    """Move to `to`, recording why."""

    to: InstancePhase
    reason: Reason = NO_REASON


@dataclass(frozen=True, slots=True)
class Launch:
    """Ask the cloud for the machine, again under the same name if it was asked before."""


@dataclass(frozen=True, slots=True)
class Terminate:
    """Ask the cloud to end the machine, again if it was asked before."""


Action = Wait | Advance | Launch | Terminate


def decide(facts: Facts, now: datetime, policy: Policy) -> Action:
    """The next step for `facts.instance`."""
    match facts.instance.phase:
        case InstancePhase.PLANNED:
            return _planned(facts, now, policy)
        case InstancePhase.LAUNCHING:
            return _launching(facts, now, policy)
        case InstancePhase.BOOTING:
            return _booting(facts, now, policy)
        case InstancePhase.READY:
            return _ready(facts, now, policy)
        case InstancePhase.DRAINING:
            return _draining(facts, now, policy)
        case InstancePhase.STOPPING:
            return _stopping(facts, now, policy)
        case InstancePhase.GONE:
            return Wait(datetime.max.replace(tzinfo=now.tzinfo))


def _planned(facts: Facts, now: datetime, policy: Policy) -> Action:
    if unwanted := _unwanted(facts):
        return Advance(InstancePhase.GONE, unwanted)
    if facts.creates_paused:
        if _age(facts, now) > policy.launch_timeout_s:
            return Advance(InstancePhase.GONE, Reason(Why.NO_CAPACITY, "the provider is paused"))
        return Wait(now + timedelta(seconds=policy.retry_backoff_s))
    return Advance(InstancePhase.LAUNCHING)


def _launching(facts: Facts, now: datetime, policy: Policy) -> Action:
    instance = facts.instance
    if unwanted := _unwanted(facts):
        return Advance(InstancePhase.STOPPING, unwanted)
    if facts.report is not None:
        return Advance(InstancePhase.BOOTING)
    if isinstance(facts.machine, Seen):
        return _seen_launching(facts.machine)
    if _age(facts, now) > policy.launch_timeout_s:
        return Advance(InstancePhase.STOPPING, Reason(Why.LAUNCH_TIMEOUT, "the cloud never showed the machine"))
    if not instance.ref:
        return Launch()
    if _believed_absent(facts, instance.launched_at or instance.phase_at):
        return Advance(InstancePhase.STOPPING, Reason(Why.LOST, "the machine was launched and is not there"))
    return Wait(now + timedelta(seconds=policy.relaunch_after_s))


def _seen_launching(sighting: Seen) -> Action:
    match sighting.machine.state:
        case MachineState.PENDING | MachineState.RUNNING:
            return Advance(InstancePhase.BOOTING)
        case MachineState.STOPPING | MachineState.STOPPED:
            return Advance(InstancePhase.STOPPING, Reason(Why.LOST, "the machine stopped while it was launched"))


def _booting(facts: Facts, now: datetime, policy: Policy) -> Action:
    if lost := _lost(facts):
        return Advance(InstancePhase.STOPPING, lost)
    if unwanted := _unwanted(facts):
        return Advance(InstancePhase.STOPPING, unwanted)
    if facts.report is not None and not facts.report.healthy:
        return Advance(InstancePhase.STOPPING, Reason(Why.UNHEALTHY, facts.report.unhealthy_why))
    if facts.report is not None:
        return Advance(InstancePhase.READY)
    if _age(facts, now) > policy.boot_timeout_s:
        return Advance(InstancePhase.STOPPING, Reason(Why.BOOT_TIMEOUT, "the agent was never heard"))
    return Wait(_deadline(facts, policy.boot_timeout_s))


def _ready(facts: Facts, now: datetime, policy: Policy) -> Action:
    if lost := _lost(facts):
        return Advance(InstancePhase.STOPPING, lost)
    if facts.report is not None and facts.report.notice:
        return Advance(InstancePhase.DRAINING, Reason(Why.PREEMPTED, facts.report.notice))
    if _silent_s(facts, now) > policy.silence_s:
        return Advance(InstancePhase.STOPPING, Reason(Why.LOST, "the agent fell silent"))
    instance = facts.instance
    if instance.stop_asked_at is not None:
        return Advance(InstancePhase.DRAINING, Reason(Why.STOPPED, "asked to stop"))
    if _lifetime_s(facts, now) > instance.max_lifetime_s:
        return Advance(InstancePhase.DRAINING, Reason(Why.LIFETIME, f"lived for {instance.max_lifetime_s:g} s"))
    if busy(facts):
        return Wait(_heard(facts) + timedelta(seconds=policy.silence_s))
    due = _idle_ends(facts, policy)
    if now >= due:
        return Advance(InstancePhase.DRAINING, Reason(Why.IDLE, "no work for it"))
    return Wait(due)


def _idle_ends(facts: Facts, policy: Policy) -> datetime:
    """Without an idle timeout it ends at once after work, and after a moment if it never had any."""
    instance, busy_at = facts.instance, facts.demand.last_busy_at
    if instance.idle_timeout_s is None:
        limit_s = policy.idle_default_s if busy_at else max(policy.settle_s, policy.idle_default_s)
    else:
        limit_s = instance.idle_timeout_s
    return max(filter(None, (instance.phase_at, busy_at))) + timedelta(seconds=limit_s)


def _draining(facts: Facts, now: datetime, policy: Policy) -> Action:
    if lost := _lost(facts):
        return Advance(InstancePhase.STOPPING, lost)
    patience_s = policy.drain_s
    if facts.report is not None and facts.report.notice:
        patience_s = min(patience_s, policy.notice_s)
    drained = facts.report is not None and facts.report.drained and facts.demand.live_attempts == 0
    if drained:
        return Advance(InstancePhase.STOPPING, facts.instance.reason)
    if _age(facts, now) > patience_s:
        return Advance(InstancePhase.STOPPING, facts.instance.reason)
    if _silent_s(facts, now) > policy.silence_s:
        return Advance(InstancePhase.STOPPING, facts.instance.reason)
    return Wait(_deadline(facts, patience_s))


def _stopping(facts: Facts, now: datetime, policy: Policy) -> Action:
    instance = facts.instance
    last_effect = max(filter(None, (instance.terminated_at, instance.launched_at, instance.phase_at)))
    if instance.terminate_calls and _believed_absent(facts, last_effect):
        return Advance(InstancePhase.GONE, instance.reason)
    if instance.terminated_at is None:
        return Terminate()
    due = instance.terminated_at + timedelta(seconds=policy.terminate_again_s)
    if now < due:
        return Wait(due)
    # Absent, only not for long enough yet: asking again would move the moment from which absence counts.
    if isinstance(facts.machine, Absent) and facts.machine.since > last_effect:
        return Wait(last_effect + timedelta(seconds=facts.visibility_s))
    return Terminate()


def busy(facts: Facts) -> bool:
    """Any evidence of work, from any side: it vetoes an idle stop (invariant 7)."""
    if facts.demand.live_attempts or facts.demand.waiting:
        return True
    if facts.report is None:
        return False
    return bool(facts.report.attempts) or facts.report.unsent_bytes > 0


def _unwanted(facts: Facts) -> Reason | None:
    if facts.instance.stop_asked_at is not None:
        return Reason(Why.STOPPED, "asked to stop")
    wanted = facts.demand.planned_for_waits or facts.demand.waiting or facts.demand.live_attempts
    return None if wanted else Reason(Why.NOT_NEEDED, "no job needs it any more")


def _lost(facts: Facts) -> Reason | None:
    """The cloud itself says that the machine is going or gone."""
    if isinstance(facts.machine, Seen) and facts.machine.machine.state in (MachineState.STOPPING, MachineState.STOPPED):
        return Reason(Why.PREEMPTED, f"the cloud says it is {facts.machine.machine.state}")
    if _believed_absent(facts, facts.instance.launched_at or facts.instance.phase_at):
        return Reason(Why.PREEMPTED if _is_spot(facts) else Why.LOST, "the machine is not there any more")
    return None


def _is_spot(facts: Facts) -> bool:
    return facts.instance.offer.market == "spot"


def _believed_absent(facts: Facts, effect_at: datetime) -> bool:
    """Absence counts once a listing taken `visibility_s` after the last effect still does not show the machine."""
    machine = facts.machine
    return isinstance(machine, Absent) and machine.latest > effect_at + timedelta(seconds=facts.visibility_s)


def _heard(facts: Facts) -> datetime:
    floor = max(facts.listening_since, facts.instance.phase_at)
    return floor if facts.report is None else max(floor, facts.report.heard_at)


def _silent_s(facts: Facts, now: datetime) -> float:
    return (now - _heard(facts)).total_seconds()


def _age(facts: Facts, now: datetime) -> float:
    return (now - facts.instance.phase_at).total_seconds()


def _deadline(facts: Facts, limit_s: float) -> datetime:
    return facts.instance.phase_at + timedelta(seconds=limit_s)


def _lifetime_s(facts: Facts, now: datetime) -> float:
    return (now - (facts.instance.launched_at or facts.instance.created_at)).total_seconds()
