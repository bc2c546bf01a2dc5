"""Runners' records at forges: their rows, and what to do about one given all that is known of it, pure and total.

A runner may be removed only while it has no job, and the forge itself has the last word on that: it refuses to remove
one that works, and once it has removed one it gives it no job. So a runner that waits is removed first and stopped
then; one that works is left alone, whoever wants its end, unless its machine goes anyway.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from .facts import RunnerTold
from .forge import Runner, Site
from .job import NO_REASON, Attempt, InstancePhase, Job, Reason, Why
from .policy import Policy


@dataclass(frozen=True, slots=True)
class RunnerRow:
    """A record that we had a forge make, or were about to: the row comes first. `asked_at` is when the row was made,
    `online_at` when its forge first said that it had come, `busy_at` when anybody first said that it has a job, and
    `gone_at` when the forge confirmed that it is no more; `reason` says why we wanted that, from `unwanted_at` on."""

    name: str
    site: Site
    job_id: str
    number: int
    instance_id: str
    asked_at: datetime
    forge_id: str = ""
    online_at: datetime | None = None
    busy_at: datetime | None = None
    unwanted_at: datetime | None = None
    gone_at: datetime | None = None
    reason: Reason = NO_REASON


@dataclass(frozen=True, slots=True)
class RunnerFacts:
    """`attempt` None: it has ended, or its `job` is deleted. `told` is what the agent said last, `seen` what the latest
    complete listing shows, `refused_at` when the forge last refused to remove it because it works; `leaving` why its
    machine ends; `idle_from` from when on it may count as idle, where something is or was to be run again."""

    row: RunnerRow
    job: Job | None
    phase: InstancePhase
    leaving: Reason
    attempt: Attempt | None
    told: RunnerTold | None
    seen: Runner | None
    refused_at: datetime | None
    idle_from: datetime | None = None


class Runners(Protocol):
    """Runners' records at forges.

    - S11 `expect` is idempotent on the attempt, and no two rows have one name. S12 what `note` says happened first
      stays, `unwanted_at` until there is no reason any more; a row leaves `there` once it is gone, and is kept.
    """

    async def expect(self, attempt: Attempt, site: Site, instance_name: str, at: datetime) -> RunnerRow:
        """The row of the attempt's runner, named after its machine: `NAME`, then `NAME-2` and so on."""

    async def note(
        self,
        name: str,
        *,
        forge_id: str = "",
        online_at: datetime | None = None,
        busy_at: datetime | None = None,
        unwanted_at: datetime | None = None,
        gone_at: datetime | None = None,
        reason: Reason | None = None,
    ) -> None: ...
    async def there(self) -> list[RunnerRow]:
        """Those that no forge has confirmed to be gone, oldest first."""

    async def of_job(self, job_id: str) -> list[RunnerRow]: ...
    async def known(self, names: Collection[str]) -> set[str]: ...
    async def note_waits(self, job_id: str, at: datetime | None) -> None:
        """Somebody waits for the job's runner, still. None: they saw that it is online, which stays."""

    async def waited_for(self, job_ids: Collection[str]) -> Mapping[str, datetime | None]:
        """By job, what was said last of those of which anything was."""

    async def sites(self, since: datetime) -> set[Site]:
        """Those at which a record is there, or was after `since`."""


def unwanted(facts: RunnerFacts, now: datetime, policy: Policy) -> Reason | None:
    """Why its record is to be removed now; None while it is not."""
    if facts.row.gone_at is not None:
        return None
    if facts.attempt is None or facts.job is None:
        return Reason(Why.NOT_NEEDED, "its attempt has ended")
    if works(facts, now, policy):
        return None
    if facts.job.cancel_asked_at is not None:
        return Reason(Why.CANCELLED)
    if facts.phase in (InstancePhase.DRAINING, InstancePhase.STOPPING):
        return facts.leaving
    spec, told = facts.job.spec.runner, facts.told
    if spec is None or told is None or told.phase != "waiting" or _idle_s(facts, told, now, policy) < spec.idle_s:
        return None
    if facts.row.online_at is None:
        return Reason(Why.IDLE, f"{facts.row.site.host} never showed it online")
    return Reason(Why.IDLE, f"no job came within {spec.idle_s:g} s")


def stuck(row: RunnerRow, now: datetime, policy: Policy) -> bool:
    """Whether its forge has failed to remove it, or to be reached, for so long that its machine is not paid for any
    longer. Its agent has the last word then on whether it works, in place of the forge."""
    late = timedelta(seconds=policy.runner_stuck_s)
    return row.gone_at is None and row.unwanted_at is not None and now - row.unwanted_at >= late


def works(facts: RunnerFacts, now: datetime, policy: Policy) -> bool:
    """Any evidence of a job, from either side, lately enough (invariant 7)."""
    if facts.told is not None and facts.told.phase == "busy":
        return True
    if facts.told is not None and facts.told.phase == "done":
        return False
    if facts.seen is not None and facts.seen.busy:
        return True
    return facts.refused_at is not None and now - facts.refused_at < timedelta(seconds=policy.runner_busy_s)


def waited_s(row: RunnerRow | None, told: RunnerTold, now: datetime, patience_s: float) -> float:
    """For how long it could have been given a job: from when it was first seen online. Its program's start is no sign
    of that, and a listing may be a while away. One that was never seen has waited since `patience_s` after that start
    all the same, and so has every other, whatever became of the controller's clock."""
    seen_s = (now - row.online_at).total_seconds() if row is not None and row.online_at is not None else 0.0
    return max(min(told.idle_s, seen_s), told.idle_s - patience_s)


def _idle_s(facts: RunnerFacts, told: RunnerTold, now: datetime, policy: Policy) -> float:
    """While it is there for what is run again, and until that has come, it does not wait in vain."""
    idle_s = waited_s(facts.row, told, now, policy.boot_timeout_s)
    if facts.idle_from is None:
        return idle_s
    return min(idle_s, (now - facts.idle_from).total_seconds())
