"""Jobs, attempts and instances: the rows that say what we intend.

`JobSpec` is what the user asked for and never changes; `Job`, `Attempt` and `Instance` are rows whose `phase` moves
only along the tables in `lifecycle`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from .budget import Budget
from .gpu import GpuNeed
from .offer import Offer


class MarketPolicy(StrEnum):
    SPOT = "spot"
    ON_DEMAND = "on-demand"
    SPOT_FIRST = "spot-first"


@dataclass(frozen=True, slots=True)
class Need:
    """What machine a job needs. Sizes are minima. Empty tuples and strings mean "any that is allowed"."""

    gpu: GpuNeed | None = None
    cpus: int = 0
    memory_gib: float = 0.0
    disk_gib: float = 0.0
    market: MarketPolicy = MarketPolicy.SPOT_FIRST
    providers: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    instance_type: str = ""
    max_price: Decimal | None = None
    image: str = ""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """Read before the job starts: `source` is an object-store URL or a prefix, `to` a path inside the workspace."""

    source: str
    to: str


@dataclass(frozen=True, slots=True)
class CheckpointSpec:
    """`path` is a folder inside the workspace; it is looked at every `every_s` seconds."""

    path: str
    every_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Workspace:
    """The packed working directory: a tar, kept once per content under `sha256` of its bytes.

    The record fields say where it came from, so that the job can be run again. `size` in bytes. `diff_sha256` names the
    blob with what differed from `commit`; `data_versions` maps each dvc.lock and .dvc file to its sha256.
    """

    sha256: str
    size: int
    files: int
    tree: str = ""
    commit: str = ""
    branch: str = ""
    dirty: bool = False
    diff_sha256: str = ""
    data_versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunnerSpec:
    """What a `ci-runner` job is to be: a runner of the site at `url`, with `labels` and no others.

    `forge` is the kind of forge, `base` where it begins if that is below its host's root. `jobs`: `one` (it serves one
    job and goes) or `many` (one after the other, each by a runner of its own). It goes as well once it has waited
    `idle_s` seconds for a job, and is given up if it is not online `online_within_s` seconds after it was asked for;
    None: it may take its time. `awaited`: somebody waits until then and says so again and again; it is given up, too,
    when they have not for a while (`awaited_s` of the policy). `scale_set`: it is one of the scale set that is named
    after its one label. `pool`: its machine is as those of the pool of that name, which it is none of. `on_demand`: a
    machine was lost with the CI job that it is for, and where there is an on-demand one that the need allows, it gets
    that."""

    url: str
    forge: str
    labels: tuple[str, ...]
    jobs: str = "one"
    group: str = ""
    idle_s: float = 600.0
    base: str = ""
    scale_set: bool = False
    online_within_s: float | None = None
    awaited: bool = False
    pool: str = ""
    on_demand: bool = False


@dataclass(frozen=True, slots=True)
class CiOrigin:
    """The CI run that asked for a job, as its forge vouched for it, and what its owner's machines stay within.

    `repository` is its address, `run` is of it and unlike any other; caps and budget are for all owners whose names
    begin with `scope`: those of `policy` when it granted the job. Written by the controller alone."""

    repository: str
    ref: str
    run: str
    scope: str
    max_instances: int
    max_usd_per_hour: Decimal
    budget: Budget | None = None
    policy: str = ""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What a user wants done. `run` is a list of words (exec'd) or one string for `sh -c`; times in seconds.

    `kind` is `command`, or `ci-runner` for what `runner` describes, which has no `run`.

    `env` holds values that are not secret; `secrets` holds names only, whose values are in the secret store or were
    handed over for this job. `shell_env` is the caller's PATH and VIRTUAL_ENV, used by the local provider.
    """

    run: tuple[str, ...] | str
    name: str = ""
    kind: str = "command"
    need: Need = field(default_factory=Need)
    setup: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    shell_env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    inputs: tuple[InputSpec, ...] = ()
    outputs: tuple[str, ...] = ()
    checkpoint: CheckpointSpec | None = None
    retries: int = 0
    timeout_s: float | None = None
    idle_timeout_s: float | None = None
    max_lifetime_s: float | None = None
    tty: bool = False
    sudo: bool = True
    log_limit_bytes: int = 10 * 2**30
    workspace: Workspace | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    rerun_of: str = ""
    runner: RunnerSpec | None = None
    origin: CiOrigin | None = None


class JobPhase(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    HELD = "held"
    DONE = "done"


class Outcome(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed-out"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    OVER_BUDGET = "over-budget"
    IMPOSSIBLE = "impossible"


class AttemptPhase(StrEnum):
    ASSIGNED = "assigned"
    RUNNING = "running"
    ENDED = "ended"


class InstancePhase(StrEnum):
    PLANNED = "planned"
    LAUNCHING = "launching"
    BOOTING = "booting"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"
    GONE = "gone"


class Why(StrEnum):
    """The code of a `Reason`. It explains and never drives."""

    NONE = ""
    NO_CAPACITY = "no-capacity"
    QUOTA = "quota"
    REJECTED = "rejected"
    LAUNCH_TIMEOUT = "launch-timeout"
    BOOT_TIMEOUT = "boot-timeout"
    PREEMPTED = "preempted"
    IDLE = "idle"
    LIFETIME = "lifetime"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    LOST = "lost"
    GIVEN_UP = "given-up"
    SUPERVISOR_LOST = "supervisor-lost"
    UNHEALTHY = "unhealthy"
    SCRIPT_FAILED = "script-failed"
    BUDGET = "budget"
    NOT_NEEDED = "not-needed"
    EXIT = "exit"
    TIMEOUT = "timeout"
    LOG_LIMIT = "log-limit"
    LOG_LOST = "log-lost"
    SETUP_FAILED = "setup-failed"
    INPUTS_FAILED = "inputs-failed"
    OUTPUTS_FAILED = "outputs-failed"
    IMPOSSIBLE = "impossible"
    RETRY = "retry"
    EXPIRED = "expired"
    SERVED = "served"
    FORGE = "forge"
    VERSION_REFUSED = "version-refused"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is as it is: a code for programs, a sentence for people."""

    why: Why = Why.NONE
    detail: str = ""

    def __str__(self) -> str:
        said_once = self.detail == self.why or self.detail.startswith(f"{self.why} ")
        return f"{self.why}: {self.detail}" if self.detail and not said_once else self.detail or str(self.why)


NO_REASON = Reason()


@dataclass(frozen=True, slots=True)
class Job:
    """One row of jobs. `attempts` counts attempts made; `failures` those that count against `retries`."""

    id: str
    owner: str
    spec: JobSpec
    phase: JobPhase
    created_at: datetime
    version: int = 0
    outcome: Outcome | None = None
    reason: Reason = NO_REASON
    exit_code: int | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    attempts: int = 0
    failures: int = 0
    cancel_asked_at: datetime | None = None
    cancel_now: bool = False

    @property
    def tenant(self) -> str:
        """Whose the machines are that may do its work: its owner's. A runner's are for that one alone, since which job
        it is given, a fork's perhaps, only its forge decides."""
        return self.owner if self.spec.runner is None else f"{self.owner}#{self.id}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a job on one instance. `number` (from 1) fences off its late messages.

    `facts` is what the agent said of it (timings, machine facts, inputs' fingerprints, refused outputs): a JSON object.
    `results_complete` says that the manifest has been accepted, or that there was nothing to sync.
    """

    job_id: str
    number: int
    instance_id: str
    phase: AttemptPhase
    assigned_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None
    reason: Reason = NO_REASON
    results_complete: bool = False
    log_complete: bool = False
    facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.job_id}/{self.number}"


@dataclass(frozen=True, slots=True)
class Instance:
    """Our row of one machine that we intend to have, launched at most once under `name`.

    `owner` is the tenant of the jobs that it may be given: a used machine is given to no other one's.
    `planned_for` is the job that made us plan it. `launch_calls` counts calls whose answer we may have missed.
    `idle_timeout_s` None means: end at once when no waiting job fits. Durations count from `launched_at`.
    `reserved_usd_per_hour` counts against the cap on spending, and is what a spot request asks for at most.
    """

    id: str
    name: str
    owner: str
    phase: InstancePhase
    offer: Offer
    created_at: datetime
    phase_at: datetime
    version: int = 0
    reason: Reason = NO_REASON
    planned_for: str = ""
    ref: str = ""
    launch_calls: int = 0
    launched_at: datetime | None = None
    ready_at: datetime | None = None
    gone_at: datetime | None = None
    terminate_calls: int = 0
    terminated_at: datetime | None = None
    idle_timeout_s: float | None = None
    max_lifetime_s: float = 43200.0
    stop_asked_at: datetime | None = None
    image: str = ""
    disk_gib: float = 0.0
    reserved_usd_per_hour: Decimal = Decimal(0)

    @property
    def belongs_to(self) -> str:
        """The owner of its jobs."""
        return self.owner.partition("#")[0]
