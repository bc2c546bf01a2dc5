"""The database, as Protocols with numbered laws: rows that say what we intend, and everything else that is kept.

tests/contracts holds one test a law; SQLite and PostgreSQL inherit all of them. The ports of rows that belong to one
idea stand with it: hosts, runners, demand, reruns.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from .demand import CiJobs
from .hosts import Hosts
from .job import Attempt, CiOrigin, Instance, InstancePhase, Job, JobPhase, Outcome, Reason
from .money import Charge
from .place import Refusal
from .reruns import Reruns
from .runners import Runners


@dataclass(frozen=True, slots=True)
class Event:
    """One line of what happened, for people. `what` is a constant in the past tense: `instance.launched`."""

    what: str
    at: datetime
    message: str = ""
    job_id: str = ""
    attempt: int = 0
    instance_id: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    id: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on one instance until the lease ends. A write under an older `fence` raises StaleWrite."""

    instance: Instance
    fence: int


class Jobs(Protocol):
    """Jobs and attempts.

    - S1 `submit` is idempotent on `job.id`: the same id again returns the stored row and changes nothing.
    - S2 every write is compare-and-set on `version`: a stale row raises StaleWrite and changes nothing.
    - S3 phases move only along `lifecycle`; each move writes one event, and the charge it closes or opens, in the same
      transaction.
    - S4 never two live attempts of one job, nor two on one instance.
    - S5 `waiting` is fair: each owner's oldest first, then each owner's second, and so on; by age within a round.
    """

    async def submit(self, job: Job) -> Job: ...
    async def get(self, job_id: str) -> Job:
        """By id, or by an unambiguous prefix of one, or by the name of the newest job so named. Raises: NotFound,
        InvalidRequest when ambiguous."""
        ...

    async def find(
        self, *, owner: str | None = None, phases: Collection[JobPhase] = (), limit: int = 100
    ) -> list[Job]: ...
    async def waiting(self, limit: int = 1000) -> list[Job]: ...
    async def finish(
        self, job: Job, outcome: Outcome, reason: Reason, at: datetime, *, exit_code: int | None = None
    ) -> Job:
        """A job with no live attempt: QUEUED or HELD -> DONE."""
        ...

    async def explain(self, job: Job, reason: Reason, at: datetime) -> Job:
        """Say why it waits; an event only when the reason changed."""
        ...

    async def ask_cancel(self, job_id: str, at: datetime, *, now: bool = False) -> Job: ...
    async def assign(self, job: Job, instance: Instance, at: datetime) -> Attempt:
        """QUEUED -> RUNNING with a new attempt ASSIGNED on a READY instance; opens its `setup` charge."""
        ...

    async def started(self, attempt: Attempt, at: datetime) -> Attempt:
        """ASSIGNED -> RUNNING; the charge becomes `compute`."""
        ...

    async def end(
        self,
        attempt: Attempt,
        reason: Reason,
        at: datetime,
        *,
        exit_code: int | None = None,
        outcome: Outcome | None = None,
        counts: bool = True,
        facts: Mapping[str, object] | None = None,
        results_complete: bool = False,
        log_complete: bool = False,
    ) -> Job:
        """The attempt -> ENDED and its job, in one transaction, -> DONE with `outcome`, or -> QUEUED when it is None
        (`failures` grows if `counts`). The charge becomes `warm_idle`. Ending an ended attempt changes nothing."""
        ...

    async def attempts(self, job_id: str) -> list[Attempt]: ...
    async def attempt(self, job_id: str, number: int) -> Attempt: ...
    async def live_attempts(self) -> list[Attempt]: ...
    async def delete(self, job_id: str) -> None:
        """A DONE job and all that hangs on it, charges excepted."""
        ...


class Instances(Protocol):
    """Instances.

    - S6 `plan` inserts PLANNED only if, in the same transaction, the number and the hourly prices of all instances
      short of GONE stay within the caps; else OverBudget, whose message gives the figures. Each counts as the most that
      it may cost, given as `reserve_usd_per_hour` and kept with the row. With a budget, as the most of its whole life,
      `overtime_s` beyond its lifetime included, until it is GONE; from then on as what the ledger says.
    - S7 never two instances short of GONE planned for one job: Conflict.
    - S8 a claimed row is not claimed again before its lease ends; each claim has a higher fence than any before.
    """

    async def plan(
        self,
        instance: Instance,
        *,
        max_instances: int,
        max_usd_per_hour: Decimal,
        reserve_usd_per_hour: Decimal,
        origin: CiOrigin | None = None,
        overtime_s: float = 0.0,
    ) -> Instance:
        """Within these caps, and the caps and the budget of the job's `origin`, which count what its scope's owners
        have. Now is when `instance` was created."""
        ...

    async def get(self, instance_id: str) -> Instance:
        """By id, unambiguous prefix, or name. Raises: NotFound."""
        ...

    async def find(self, *, phases: Collection[InstancePhase] = (), limit: int = 100_000) -> list[Instance]:
        """Newest first; all phases short of GONE when none is named."""
        ...

    async def by_name(self, names: Collection[str]) -> dict[str, Instance]: ...
    async def claim(
        self, holder: str, now: datetime, *, limit: int, lease_s: float, only: Collection[str] = ()
    ) -> list[Claim]:
        """Rows short of GONE that are due (`due_at <= now`), or those named in `only` whether due or not."""
        ...

    async def renew(self, claims: Mapping[str, int], now: datetime, *, lease_s: float) -> None:
        """Begin the leases anew: instance id -> fence. Stale fences are passed over in silence."""
        ...

    async def settle(self, claims: Mapping[str, tuple[int, datetime]]) -> None:
        """Give back: instance id -> (fence, when it is due next). Stale fences are passed over in silence."""
        ...

    async def due(self) -> datetime | None:
        """When the next row short of GONE is due."""
        ...

    async def advance(
        self,
        instance: Instance,
        to: InstancePhase,
        reason: Reason,
        at: datetime,
        *,
        fence: int | None = None,
        **changes: Any,
    ) -> Instance:
        """The only way to change phase (S3). `changes` are further columns of Instance."""
        ...

    async def update(self, instance: Instance, *, fence: int | None = None, **changes: Any) -> Instance:
        """Change columns other than phase; compare-and-set."""
        ...

    async def ask_stop(self, instance_id: str, at: datetime) -> Instance: ...


@dataclass(frozen=True, slots=True)
class TokenRow:
    id: str
    name: str
    role: str
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """`body` is the wire manifest as JSON."""

    job_id: str
    number: int
    area: str
    sequence: int
    final: bool
    at: datetime
    body: Mapping[str, Any]


class Records(Protocol):
    """Everything else that is a row: events, charges, refusals, readings, manifests, tokens, sessions, facts of ours.

    - S9 a secret's value is stored only encrypted; a token or session only hashed (sha-256 of the text).
    - S10 `join` with the same (token, nonce) succeeds for ever; another nonce, a used or an expired token raises
      Forbidden. `expect_join` again puts the end of an unused token off, and never brings it nearer.
    """

    async def controller_id(self) -> str: ...
    async def meta(self, key: str) -> str | None: ...
    async def set_meta(self, key: str, value: str, *, only_new: bool = False) -> str:
        """The value stored afterwards: with `only_new`, the one that was there first."""
        ...

    async def record(self, event: Event) -> Event: ...
    async def events(
        self, *, after: int = 0, job_id: str = "", instance_id: str = "", what: str = "", limit: int = 1000
    ) -> list[Event]: ...
    async def charges(
        self, *, job_id: str = "", instance_id: str = "", since: datetime | None = None, open_only: bool = False
    ) -> list[Charge]: ...
    async def refuse(self, refusal: Refusal) -> None: ...
    async def refusals(self, now: datetime) -> list[Refusal]: ...
    async def expect_join(self, instance_id: str, token_sha256: str, expires_at: datetime) -> None: ...
    async def join(
        self, instance_id: str, token_sha256: str, nonce_sha256: str, session_sha256: str, at: datetime
    ) -> None: ...
    async def session(self, session_sha256: str) -> str | None:
        """The instance whose session this is."""
        ...

    async def add_token(self, row: TokenRow, token_sha256: str) -> None: ...
    async def token(self, token_sha256: str, at: datetime) -> TokenRow | None: ...
    async def tokens(self) -> list[TokenRow]: ...
    async def drop_token(self, token_id: str) -> None: ...
    async def put_secret(self, owner: str, name: str, value: str, *, job_id: str = "") -> None:
        """With `job_id`, for that job alone and deleted with it."""
        ...

    async def secrets(self, owner: str, names: Collection[str], *, job_id: str = "") -> dict[str, str]:
        """The values found; a job's own before the owner's."""
        ...

    async def secret_names(self, owner: str) -> list[tuple[str, str, datetime]]:
        """(name, fingerprint, set at); the fingerprint is the first 12 hex digits of a keyed hash."""
        ...

    async def drop_secret(self, owner: str, name: str) -> None: ...
    async def rekey(self, new_key: bytes) -> int: ...
    async def put_manifest(self, row: ManifestRow) -> bool:
        """False when a later or final one of the area is there already. Raises: StaleWrite when the attempt is not
        the job's newest."""
        ...

    async def manifests(self, job_id: str, area: str) -> list[ManifestRow]:
        """Oldest first."""
        ...

    async def drop_manifest(self, row: ManifestRow) -> None: ...
    async def add_readings(
        self, job_id: str, number: int, instance_id: str, rows: Sequence[tuple[datetime, Mapping[str, Any]]]
    ) -> None: ...
    async def readings(self, job_id: str, number: int) -> list[tuple[datetime, Mapping[str, Any]]]: ...
    async def prune(self, *, events_before: datetime, readings_before: datetime) -> int: ...


@dataclass(frozen=True, slots=True)
class Other:
    """Another controller of the same database. Ages in seconds: since it began to listen, and since it was seen."""

    holder: str
    urls: tuple[str, ...]
    since_age_s: float
    seen_age_s: float


@dataclass(frozen=True, slots=True)
class Attendance:
    """`heard_ages_s`: instance id -> seconds since any controller heard its agent."""

    others: tuple[Other, ...]
    heard_ages_s: Mapping[str, float]


class Controllers(Protocol):
    """Who shares this database. Ages are by its own clock: no two controllers' clocks are ever compared."""

    async def attend(
        self, holder: str, urls: Collection[str], agents: Collection[str], now: datetime, *, anew: bool, forget_s: float
    ) -> Attendance:
        """Say that `holder` is there, reached at `urls`, and has heard `agents` since it said so last; learn of the
        others. `anew`: it has just begun to listen. What is older than `forget_s` is forgotten."""
        ...

    async def leave(self, holder: str) -> None: ...


class Store(Protocol):
    """The database: SQLite (one controller, held by a file lock) or PostgreSQL (several)."""

    @property
    def jobs(self) -> Jobs: ...
    @property
    def instances(self) -> Instances: ...
    @property
    def records(self) -> Records: ...
    @property
    def hosts(self) -> Hosts: ...
    @property
    def runners(self) -> Runners: ...
    @property
    def ci_jobs(self) -> CiJobs: ...
    @property
    def reruns(self) -> Reruns: ...
    async def close(self) -> None: ...
