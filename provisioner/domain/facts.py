"""What is known about one instance at one moment: the only input of `decide`.

Database, cloud and agent each answer only for what they own. What is not known is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from .handing import HandedOver
from .job import Instance
from .offer import Machine


@dataclass(frozen=True, slots=True)
class Seen:
    """The cloud's latest complete listing of the scope shows the machine."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class Absent:
    """Complete listings of the scope, the first taken at `since` and the last at `latest`, do not show the machine.

    `ended`: the cloud says more, that it was there and is over for good.
    """

    since: datetime
    latest: datetime
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """No complete listing of the scope yet, or none since the last effect."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Nobody can say any more whether the machine exists, and a person has said that it does not: `why` says who."""

    why: str


Sighting = Seen | Absent | Unknown | GivenUp


@dataclass(frozen=True, slots=True)
class GpuEvent:
    """What befell a GPU while an attempt ran. `what` is `xid` or `thermal`; with `gpu` and `code` it says which."""

    what: str
    gpu: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class RunnerTold:
    """What the hooks of a forge's runner told: `phase` is `waiting`, `busy` or `done`; `idle_s` seconds since it began
    to wait; `jobs` taken so far; `job` what the forge called the one in hand, or the last."""

    phase: str
    idle_s: float = 0.0
    jobs: int = 0
    job: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AttemptReport:
    """What the agent says of one attempt. `phase` is `starting`, `setup`, `running`, `syncing` or `ended`."""

    job_id: str
    number: int
    phase: str
    exit_code: int | None = None
    why: str = ""
    detail: str = ""
    log_size: int = 0
    facts: dict[str, object] = field(default_factory=dict)
    gpu_events: tuple[GpuEvent, ...] = ()
    runner: RunnerTold | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What the agent said last. `heard_at` is this controller's own clock when it said so.

    `drained`: no attempt on it and nothing unsent. `notice`: the cloud has announced the machine's end. `sequence`
    grows with every message of one boot, so that one overtaken on its way is known; 0 where the agent gives none.
    `unhealthy_code` is a `Why` where it is not the hardware. `handed_over`: what it goes by without a controller.
    """

    heard_at: datetime
    boot_id: str = ""
    healthy: bool = True
    unhealthy_why: str = ""
    unhealthy_code: str = ""
    drained: bool = False
    notice: str = ""
    attempts: tuple[AttemptReport, ...] = ()
    unsent_bytes: int = 0
    sequence: int = 0
    handed_over: HandedOver | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """Whether anybody wants this instance: attempts not ended on it, and waiting jobs that fit it. `runners` are those
    of it that a forge has not yet confirmed to be gone, `at_work_at` when one last showed such a one online with a job.
    """

    live_attempts: int = 0
    waiting: int = 0
    planned_for_waits: bool = False
    last_busy_at: datetime | None = None
    runners: int = 0
    at_work_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """`listening_since` is when this controller began to hear agents, and every other that they could use: silence
    before it does not count. `heard_elsewhere` is when another heard this one's. `skipped` is by how many seconds the
    clock was set forward, and at what reading: that time did not pass."""

    instance: Instance
    machine: Sighting
    report: Report | None
    demand: Demand
    listening_since: datetime
    visibility_s: float
    creates_paused: bool = False
    skipped: tuple[tuple[datetime, float], ...] = ()
    heard_elsewhere: datetime | None = None
