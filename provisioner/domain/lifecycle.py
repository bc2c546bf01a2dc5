"""Which phase may follow which: three tables, and one function that refuses everything else.

The diagrams in docs/explanation are drawn from these tables and compared in a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from .errors import IllegalTransition
from .job import AttemptPhase, InstancePhase, JobPhase

P, J, A = InstancePhase, JobPhase, AttemptPhase

INSTANCE: Mapping[StrEnum, frozenset[StrEnum]] = {
    P.PLANNED: frozenset({P.LAUNCHING, P.GONE}),
    P.LAUNCHING: frozenset({P.BOOTING, P.STOPPING, P.GONE}),
    P.BOOTING: frozenset({P.READY, P.STOPPING, P.GONE}),
    P.READY: frozenset({P.DRAINING, P.STOPPING, P.GONE}),
    P.DRAINING: frozenset({P.STOPPING, P.GONE}),
    P.STOPPING: frozenset({P.GONE}),
    P.GONE: frozenset(),
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
    P.PLANNED: None,
    P.LAUNCHING: "boot",
    P.BOOTING: "bootstrap",
    P.READY: "wait_job",
    P.DRAINING: "drain",
    P.STOPPING: "drain",
    P.GONE: None,
}


def check(table: Mapping[StrEnum, frozenset[StrEnum]], before: StrEnum, after: StrEnum, what: str) -> None:
    """Raises: IllegalTransition when `after` may not follow `before`."""
    if after not in table[before]:
        raise IllegalTransition(f"{what} may not go from {before} to {after}")
