"""What to do about one instance, given all that is known of it: pure, total, and the same whoever calls it.

`decide` returns one `Action`; `engine.act` carries it out and the next call sees what came of it. Guard clauses stand
in order of priority: what the cloud says before what the agent says, an end that was asked for before one that is due.
What nobody can say any more, a person has said: that goes before all.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from .facts import Absent, Facts, GivenUp, Report, Seen
from .job import NO_REASON, InstancePhase, Reason, Why
from .offer import MachineState, Market
from .policy import Policy
from .span import LONGEST_S

_TICK = timedelta(milliseconds=1)


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
    if isinstance(facts.machine, GivenUp) and facts.instance.phase is not InstancePhase.GONE:
        return Advance(InstancePhase.GONE, Reason(Why.GIVEN_UP, facts.machine.why))
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
        never_asked = instance.launch_calls == 0
        return Advance(InstancePhase.GONE if never_asked else InstancePhase.STOPPING, unwanted)
    if facts.report is not None:
        return Advance(InstancePhase.BOOTING)
    if isinstance(facts.machine, Seen):
        return _seen_launching(facts.machine)
    if isinstance(facts.machine, Absent) and facts.machine.ended:
        return Advance(InstancePhase.STOPPING, Reason(Why.LOST, "the machine ended while it was launched"))
    asked_at = _began(facts, instance.launched_at or instance.phase_at, now)  # it may have waited for its turn to be
    late_at = asked_at + timedelta(seconds=policy.launch_timeout_s) + _TICK
    if now >= late_at and instance.launch_calls == 0:
        return Advance(InstancePhase.GONE, Reason(Why.LAUNCH_TIMEOUT, "the cloud could not even be asked"))
    if now >= late_at:
        return Advance(InstancePhase.STOPPING, Reason(Why.LAUNCH_TIMEOUT, "the cloud never showed the machine"))
    if not instance.ref:
        return Launch()
    if _believed_absent(facts, instance.launched_at or instance.phase_at, now):
        return Advance(InstancePhase.STOPPING, Reason(Why.LOST, "the machine was launched and is not there"))
    return Wait(min(now + timedelta(seconds=policy.relaunch_after_s), late_at))


def _seen_launching(sighting: Seen) -> Action:
    match sighting.machine.state:
        case MachineState.PENDING | MachineState.RUNNING:
            return Advance(InstancePhase.BOOTING)
        case MachineState.STOPPING | MachineState.STOPPED:
            return Advance(InstancePhase.STOPPING, Reason(Why.LOST, "the machine stopped while it was launched"))


def _booting(facts: Facts, now: datetime, policy: Policy) -> Action:
    if lost := _lost(facts, now):
        return Advance(InstancePhase.STOPPING, lost)
    if unwanted := _unwanted(facts):
        return Advance(InstancePhase.STOPPING, unwanted)
    if facts.report is not None and not facts.report.healthy:
        return Advance(InstancePhase.STOPPING, _unfit(facts.report))
    if facts.report is not None:
        return Advance(InstancePhase.READY)
    if _age(facts, now) > policy.boot_timeout_s:
        return Advance(InstancePhase.STOPPING, Reason(Why.BOOT_TIMEOUT, "the agent was never heard"))
    return Wait(_deadline(facts, now, policy.boot_timeout_s))


def _ready(facts: Facts, now: datetime, policy: Policy) -> Action:
    instance, report = facts.instance, facts.report
    if lost := _lost(facts, now):
        return Advance(InstancePhase.STOPPING, lost)
    if report is not None and report.notice:
        return Advance(InstancePhase.DRAINING, Reason(Why.PREEMPTED, report.notice))
    silent_at = _silent_at(facts, now, policy)
    if now >= silent_at:
        return Advance(InstancePhase.STOPPING, Reason(Why.LOST, "the agent fell silent"))
    if instance.stop_asked_at is not None:
        return Advance(InstancePhase.DRAINING, Reason(Why.STOPPED, "asked to stop"))
    old_at = _began(facts, instance.launched_at or instance.created_at, now) + _seconds(instance.max_lifetime_s)
    if now >= old_at:
        return Advance(InstancePhase.DRAINING, Reason(Why.LIFETIME, f"lived for {instance.max_lifetime_s:g} s"))
    if report is None:
        return Wait(min(silent_at, old_at))
    if not report.healthy and not facts.demand.live_attempts:
        return Advance(InstancePhase.DRAINING, _unfit(report))
    if busy(facts):
        return Wait(min(silent_at, old_at))
    idle_at = _idle_ends(facts, now, policy)
    if now >= idle_at:
        return Advance(InstancePhase.DRAINING, Reason(Why.IDLE, "no work for it"))
    return Wait(min(idle_at, silent_at, old_at))


def _idle_ends(facts: Facts, now: datetime, policy: Policy) -> datetime:
    """Without an idle timeout it ends at once after work, and after a moment if it never had any."""
    instance, busy_at = facts.instance, facts.demand.last_busy_at
    if instance.idle_timeout_s is None:
        limit_s = policy.idle_default_s if busy_at else max(policy.settle_s, policy.idle_default_s)
    else:
        limit_s = instance.idle_timeout_s
    return max(_began(facts, at, now) for at in (instance.phase_at, busy_at) if at) + timedelta(seconds=limit_s)


def _draining(facts: Facts, now: datetime, policy: Policy) -> Action:
    if lost := _lost(facts, now):
        return Advance(InstancePhase.STOPPING, lost)
    patience_s = policy.drain_s
    if facts.report is not None and facts.report.notice:
        patience_s = min(patience_s, policy.notice_s)
    told = facts.report is not None and facts.report.drained
    drained = told and facts.demand.live_attempts == 0 and facts.demand.runners == 0
    silent_at = _silent_at(facts, now, policy)
    if drained or _age(facts, now) > patience_s or now >= silent_at:
        return Advance(InstancePhase.STOPPING, facts.instance.reason)
    return Wait(min(silent_at, _deadline(facts, now, patience_s)))


def _stopping(facts: Facts, now: datetime, policy: Policy) -> Action:
    instance = facts.instance
    effects = [at for at in (instance.terminated_at, instance.launched_at, instance.phase_at) if at]
    last_effect = max(_began(facts, at, now) for at in effects)
    if instance.terminate_calls and _believed_absent(facts, last_effect, now):
        return Advance(InstancePhase.GONE, instance.reason)
    if instance.terminated_at is None:
        return Terminate()
    due = _began(facts, instance.terminated_at, now) + timedelta(seconds=policy.terminate_again_s)
    if now < due:
        return Wait(due)
    # Absent, only not for long enough yet: asking again would move the moment from which absence counts.
    if isinstance(facts.machine, Absent) and facts.machine.latest > last_effect:
        enough = last_effect + timedelta(seconds=facts.visibility_s)
        return Wait(max(enough, now + timedelta(seconds=policy.retry_backoff_s)))
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


def _unfit(report: Report) -> Reason:
    script = report.unhealthy_code == Why.SCRIPT_FAILED
    return Reason(Why.SCRIPT_FAILED if script else Why.UNHEALTHY, report.unhealthy_why)


def _lost(facts: Facts, now: datetime) -> Reason | None:
    """The cloud itself says that the machine is going or gone."""
    why = Why.PREEMPTED if facts.instance.offer.market == Market.SPOT else Why.LOST
    if isinstance(facts.machine, Seen) and facts.machine.machine.state in (MachineState.STOPPING, MachineState.STOPPED):
        return Reason(why, f"the cloud says it is {facts.machine.machine.state}")
    if _believed_absent(facts, facts.instance.launched_at or facts.instance.phase_at, now):
        return Reason(why, "the machine is not there any more")
    return None


def _believed_absent(facts: Facts, effect_at: datetime, now: datetime) -> bool:
    """Absence counts once a listing taken `visibility_s` after the last effect still does not show the machine; at
    once where the cloud says that it ended, for what has ended does not come back."""
    machine = facts.machine
    if not isinstance(machine, Absent):
        return False
    if machine.ended:
        return True
    return machine.latest >= _began(facts, effect_at, now) + timedelta(seconds=facts.visibility_s) + _TICK


def _began(facts: Facts, at: datetime, now: datetime) -> datetime:
    """`at` by the clock as it goes now. Set forward since: later by as much. Set back since: when listening began anew,
    as far as can be told."""
    if at > now:
        return min(facts.listening_since, now)
    return at + timedelta(seconds=sum(seconds for reading, seconds in facts.skipped if at <= reading))


def _heard(facts: Facts, now: datetime) -> datetime:
    floor = max(facts.listening_since, _began(facts, facts.instance.phase_at, now))
    heard = (facts.report.heard_at if facts.report else None, facts.heard_elsewhere)
    return max([floor, *(at for at in heard if at is not None)])


def _silent_at(facts: Facts, now: datetime, policy: Policy) -> datetime:
    """What a forge shows at work lives, whoever cannot hear its agent (invariant 7); but no longer than the agent
    itself goes on without a controller."""
    heard = _heard(facts, now)
    if (shown := facts.demand.at_work_at) is not None:
        heard = max(heard, min(shown, heard + timedelta(seconds=policy.orphan_s - policy.silence_s)))
    return heard + timedelta(seconds=policy.silence_s)


def _age(facts: Facts, now: datetime) -> float:
    return (now - _began(facts, facts.instance.phase_at, now)).total_seconds()


def _deadline(facts: Facts, now: datetime, limit_s: float) -> datetime:
    """Just past the limit, so that at that moment it is over."""
    return _began(facts, facts.instance.phase_at, now) + timedelta(seconds=limit_s) + _TICK


def _seconds(limit_s: float) -> timedelta:
    """A user's own limit may be larger than a date can hold."""
    return timedelta(seconds=min(limit_s, LONGEST_S))
