"""What the engine and the web need of the outside, as Protocols with numbered laws; the database's are in `store`.

tests/contracts holds one test a law; every adapter, fakes included, inherits all of them. Ports are async; a blocking
library is wrapped once, in its adapter.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from .facts import Report
from .handing import HandOver
from .job import Attempt, Job, Need
from .offer import LaunchOrder, Listing, Machine, Offer


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

    async def rest(self, job_id: str, number: int) -> None:
        """No more is expected: nothing is kept open for it. More may come all the same."""
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
    """What ought to be on one instance, for its agent. `hand_over`: from now on it is to look after itself."""

    version: int
    attempts: tuple[WantedAttempt, ...] = ()
    drain: bool = False
    end: bool = False
    hand_over: HandOver | None = None


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
