"""What the engine and the web need of the outside, as Protocols with numbered laws.

tests/contracts holds one test a law; every adapter, fakes included, inherits all of them. Ports are async; a blocking
library is wrapped once, in its adapter.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from .demand import CiJobs
from .facts import Report
from .forge import Site
from .hosts import Hosts
from .job import Attempt, CiOrigin, Instance, InstancePhase, Job, JobPhase, Need, Outcome, Reason
from .money import Charge
from .offer import LaunchOrder, Listing, Machine, Offer
from .place import Refusal
from .reruns import Reruns
from .runners import RunnerRow


class Clock(Protocol):
    """C1 `now` is aware UTC. C2 `monotonic` (seconds) never goes back and counts time asleep. C3 `sleep` ends early
    only by cancellation."""

    def now(self) -> datetime: ...
    def monotonic(self) -> float: ...
    async def sleep(self, seconds: float) -> None: ...


class Provider(Protocol):
    """One cloud.

    - L1 `launch` is idempotent on `order.name`: called twice, one machine.
    - L2 a launched machine shows in `machines()` within `visibility_s`.
    - L3 `machines()` shows everything with our controller tag that can still cost money or come back, scope by scope:
      a complete list or the error, never a short list. A listing's `ended` names only what is over for good: such a
      name is never again in a listing's machines. One that is `given_up` has none; should the scope come back, it is
      listed as it is.
    - L4 `terminate` is idempotent; absence is success; what the machine alone used goes with it.
    - L5 every identity tag is on the machine from the create call itself, and round-trips.
    - L6 only our errors come out.
    - L7 cancelling the await never loses a machine.
    - L8 an offer is a price, not a promise; an unknown price is unknown, never zero.
    - L9 what was asked for is what is given: a GPU request never yields a machine without that GPU.
    """

    @property
    def name(self) -> str: ...
    @property
    def visibility_s(self) -> float: ...
    async def offers(self, need: Need) -> Sequence[Offer]:
        """Offers that might serve, known to be too small ones included, so that `why` can say so."""
        ...

    async def launch(self, order: LaunchOrder) -> Machine:
        """Raises: ProviderError. After `Unreachable` the machine may or may not exist."""
        ...

    async def machines(self) -> Sequence[Listing]: ...
    async def terminate(self, machine_ref: str, name: str, scope: str) -> None:
        """End the machine called `name`; `machine_ref` may be empty when the launch's answer was lost."""
        ...


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
      it may cost, given as `reserve_usd_per_hour` and kept with the row.
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
    ) -> Instance:
        """Within these caps and those of the job's `origin`, which count what its scope's owners have."""
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
        self, *, after: int = 0, job_id: str = "", instance_id: str = "", limit: int = 1000
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


class Runners(Protocol):
    """Runners' records at forges.

    - S11 `expect` is idempotent on the attempt, and no two rows have one name. S12 what `note` says happened first
      stays; a row leaves `there` once it is gone, and is kept.
    """

    async def expect(self, attempt: Attempt, site: Site, instance_name: str, at: datetime) -> RunnerRow:
        """The row of the attempt's runner, named after its machine: `NAME`, then `NAME-2` and so on."""
        ...

    async def note(
        self,
        name: str,
        *,
        forge_id: str = "",
        online_at: datetime | None = None,
        busy_at: datetime | None = None,
        gone_at: datetime | None = None,
        reason: Reason | None = None,
    ) -> None: ...
    async def there(self) -> list[RunnerRow]:
        """Those that no forge has confirmed to be gone, oldest first."""
        ...

    async def of_job(self, job_id: str) -> list[RunnerRow]: ...
    async def known(self, names: Collection[str]) -> set[str]: ...
    async def sites(self, since: datetime) -> set[Site]:
        """Those at which a record is there, or was after `since`."""
        ...


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


@dataclass(frozen=True, slots=True)
class LogSpan:
    """`stream` 1 stdout, 2 stderr; `at` unix seconds on the machine's clock, for showing only."""

    offset: int
    length: int
    stream: int
    at: float


class Logs(Protocol):
    """Raw bytes of one attempt's log, addressed by offset.

    - G1 appending bytes already received changes nothing; a gap is refused by answering the offset to resume from.
    - G2 bytes up to `safe` survive power loss. G3 what `read` returns is exactly what was appended.
    - G4 memory is bounded by the chunk size, whatever the log's length.
    """

    async def append(
        self, job_id: str, number: int, offset: int, spans: Sequence[LogSpan], data: bytes | memoryview
    ) -> tuple[int, int]:
        """(received, safe) after storing."""
        ...

    async def offsets(self, job_id: str, number: int) -> tuple[int, int]: ...
    async def read(self, job_id: str, number: int, offset: int = 0, limit: int = 2**20) -> tuple[list[LogSpan], bytes]:
        """Up to `limit` bytes from `offset`, with the spans that cover them, cut to fit."""
        ...

    async def wait(self, job_id: str, number: int, beyond: int, timeout_s: float) -> int:
        """Until more than `beyond` bytes are there, or the time is over; the size then."""
        ...

    async def delete(self, job_id: str, number: int) -> None: ...


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """`version` tells one content of a key from another; empty where the store has nothing that does."""

    key: str
    size: int
    version: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class SignedRequest:
    url: str
    method: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Multipart:
    upload_id: str
    part_size: int
    urls: tuple[str, ...]


class Objects(Protocol):
    """The result store under one prefix.

    - O1 a key shows only whole objects. O2 `get` of what `put` stored is byte-identical. O3 deleting what is absent is
      success. O4 only ObjectsError comes out. O5 a key can never leave the prefix. O6 a key's `version` changes with
      its bytes, and only then or when they are put again.
    """

    @property
    def url(self) -> str: ...
    @property
    def signs(self) -> bool:
        """Whether `sign` and `multipart` work; else bytes travel through the controller."""
        ...

    async def put(self, key: str, data: AsyncIterator[bytes] | bytes | Path) -> int: ...
    def get(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]: ...
    async def head(self, key: str) -> ObjectInfo | None: ...
    async def under(self, prefix: str) -> list[ObjectInfo]: ...
    async def delete(self, keys: Sequence[str]) -> None: ...
    async def sign(self, keys: Sequence[str], method: str, expires_s: float) -> list[SignedRequest]:
        """A request a key, in their order."""
        ...

    async def multipart(self, key: str, size: int, expires_s: float) -> Multipart: ...
    async def complete(self, key: str, upload_id: str, etags: Sequence[str]) -> None: ...
    async def post_policy(self, prefix: str, expires_s: float, max_bytes: int) -> Mapping[str, Any] | None:
        """A standing right to add objects below `prefix`: {url, fields}; None where the store has no such thing."""
        ...

    async def foreign(self, source: str) -> tuple[Objects, str]:
        """The store and key or prefix behind another URL (an input's source), with this controller's credentials."""
        ...


@dataclass(frozen=True, slots=True)
class WantedAttempt:
    """`cancel` is "", "kindly" or "now"; `forget` that the agent may delete what it has of it."""

    job: Job | None
    attempt: Attempt
    cancel: str = ""
    forget: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """What ought to be on one instance, for its agent."""

    version: int
    attempts: tuple[WantedAttempt, ...] = ()
    drain: bool = False
    end: bool = False


class Desk(Protocol):
    """Where the web meets the engine: what was heard goes in, what is wanted comes out, nobody waits for a pass."""

    @property
    def last_pass_at(self) -> datetime | None: ...
    def poke(self) -> None:
        """Something changed in the store: look at once."""
        ...

    def heard(self, instance_id: str, report: Report) -> None: ...
    async def wanted(self, instance_id: str) -> Wanted: ...
    async def wait(self, instance_id: str, seen: int, timeout_s: float) -> None:
        """Until what is wanted of the instance has another version than `seen`, or the time is over."""
        ...

    async def ladder(self, need: Need, *, force_on_demand: bool = False) -> Any:
        """A `place.Ladder` over all enabled providers, as planning would see it now."""
        ...
