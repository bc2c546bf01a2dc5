"""Which phase may follow which: three tables, and one function that refuses everything else.

The diagrams in docs/explanation are drawn from these tables and compared in a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from .errors import IllegalTransition
from .job import AttemptPhase, InstancePhase, JobPhase

I, J, A = InstancePhase, JobPhase, AttemptPhase

INSTANCE: Mapping[StrEnum, frozenset[StrEnum]] = {
    I.PLANNED: frozenset({I.LAUNCHING, I.GONE}),
    I.LAUNCHING: frozenset({I.BOOTING, I.STOPPING, I.GONE}),
    I.BOOTING: frozenset({I.READY, I.STOPPING, I.GONE}),
    I.READY: frozenset({I.DRAINING, I.STOPPING, I.GONE}),
    I.DRAINING: frozenset({I.STOPPING, I.GONE}),
    I.STOPPING: frozenset({I.GONE}),
    I.GONE: frozenset(),
}

JOB: Mapping[StrEnum, frozenset[StrEnum]] = {
    J.QUEUED: frozenset({J.RUNNING, J.HELD, J.DONE}),
    J.HELD: frozenset({J.QUEUED, J.DONE}),
    J.RUNNING: frozenset({J.QUEUED, J.DONE}),
    J.DONE: frozenset(),
}

ATTEMPT: Mapping[StrEnum, frozenset[StrEnum]] = {
    A.ASSIGNED: frozenset({A.RUNNING, A.ENDED}),
    A.RUNNING: frozenset({A.ENDED}),
    A.ENDED: frozenset(),
}

# What a second of an instance in a phase is charged as, while no attempt says otherwise.
# Source: reference "cost", C2 allocation phases.
CHARGED_AS: Mapping[InstancePhase, str | None] = {
    I.PLANNED: None,
    I.LAUNCHING: "boot",
    I.BOOTING: "bootstrap",
    I.READY: "wait_job",
    I.DRAINING: "drain",
    I.STOPPING: "drain",
    I.GONE: None,
}


def check(table: Mapping[StrEnum, frozenset[StrEnum]], before: StrEnum, after: StrEnum, what: str) -> None:
    """Raises: IllegalTransition when `after` may not follow `before`."""
    if after not in table[before]:
        raise IllegalTransition(f"{what} may not go from {before} to {after}")
