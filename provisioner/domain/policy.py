"""Every time-out and cap that the engine uses, in one frozen record. All are policy, none is law.

System tests run with `scaled(1/20)`. Source for defaults: reference "failure-modes", constants to start from.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Policy:
    """Durations in seconds, money in USD."""

    launch_timeout_s: float = 300.0
    boot_timeout_s: float = 900.0
    relaunch_after_s: float = 10.0
    silence_s: float = 180.0
    drain_s: float = 600.0
    terminate_again_s: float = 15.0
    idle_default_s: float = 0.0
    settle_s: float = 2.0
    lifetime_default_s: float = 43200.0
    deadman_bound_s: float = 1800.0
    cancel_grace_s: float = 30.0
    list_every_s: float = 10.0
    collect_every_s: float = 30.0
    collect_min_age_s: float = 60.0
    collect_forget_s: float = 3600.0
    lease_s: float = 30.0
    retry_backoff_s: float = 2.0
    retry_backoff_max_s: float = 300.0
    refused_s: float = 180.0
    refused_max_s: float = 3600.0
    agent_poll_s: float = 25.0
    agent_answer_s: float = 30.0
    agent_idle_s: float = 600.0
    agent_silence_s: float = 1800.0
    orphan_s: float = 3600.0
    hold_unsent_s: float = 3600.0
    outputs_every_s: float = 30.0
    embedded_idle_s: float = 1800.0
    notice_s: float = 110.0
    console_s: float = 3.0
    hard_limit_s: float = 900.0
    runners_every_s: float = 15.0
    listing_call_s: float = 3.0
    runner_busy_s: float = 30.0
    awaited_s: float = 120.0
    runner_stuck_s: float = 300.0
    runners_linger_s: float = 600.0
    runner_refused_soon_s: float = 14 * 86400.0
    poll_every_s: float = 50.0
    poll_silent_s: float = 15.0
    webhooks_silent_s: float = 300.0
    redeliver_every_s: float = 300.0
    redeliver_back_s: float = 1800.0
    rerun_within_s: float = 21600.0
    reruns_most: int = 2
    leftovers_every_s: float = 900.0
    unused_group_s: float = 86400.0
    collect_share: float = 0.2
    max_instances: int = 8
    max_usd_per_hour: Decimal = Decimal("10")
    on_demand_after_interruptions: int = 1
    workspace_limit_bytes: int = 2**30
    events_keep_s: float = 90 * 86400.0
    readings_keep_s: float = 14 * 86400.0
    logs_keep_s: float = 90 * 86400.0
    objects_keep_s: float = 90 * 86400.0

    def pause_s(self, failures: int) -> float:
        """Before what has failed so often in a row, from 0, is tried again: twice as long each time."""
        doubled: float = self.retry_backoff_s * 2 ** min(failures, 32)
        return min(doubled, self.retry_backoff_max_s)

    def scaled(self, factor: float) -> Policy:
        """The same policy with every duration multiplied by `factor`."""
        changes = {f.name: getattr(self, f.name) * factor for f in fields(self) if f.name.endswith("_s")}
        return replace(self, **changes)
