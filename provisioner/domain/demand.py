"""CI jobs that wait, as they are known from every source, and what the parts that bring and use that knowledge need.

A job's state only ever moves forward, and each source may be late, doubled or silent: the rows are what is believed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from .errors import NotFound
from .forge import CiJob, Delivery, Site
from .job import Attempt, Job
from .pools import Pool

UNSEEN = 2  # complete polls that do not show a job: one alone may be from just before it came
WAITS_FOR = timedelta(hours=24)  # Source: reference "forges", 2.1.6: GitHub fails a job that was queued for so long


@dataclass(frozen=True, slots=True)
class KnownJob:
    """`seen_at`: when it was heard of, or last shown by a poll; `unseen`: complete polls since then that did not show
    it; `refused`: why no pool may serve it, as far as that was said."""

    job: CiJob
    seen_at: datetime
    unseen: int = 0
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Believed:
    """At one moment: the jobs that wait, oldest first, and by the name of a pool how many jobs were ever submitted for
    it; our `jobs` for pools that are not done, their live `attempts` by job, for which jobs machines are `planned`, and
    the `owners` of pools' machines that are planned for none of those jobs."""

    waiting: tuple[KnownJob, ...]
    made: Mapping[str, int]
    jobs: tuple[Job, ...] = ()
    attempts: Mapping[str, Attempt] = field(default_factory=dict)
    planned: frozenset[str] = frozenset()
    owners: tuple[str, ...] = ()


class CiJobs(Protocol):
    """What is known of CI jobs, kept.

    - S13 a job's state only moves forward, whatever comes in whatever order and however often; what one source does
      not tell keeps what another told.
    - S14 a delivery counts once: the same id again changes nothing. A job that is older than WAITS_FOR when it is first
      told of does not wait, unless a poll shows it: an old webhook sent again by anybody does nothing.
    - S15 a job that UNSEEN complete polls of its site did not show, begun after it was seen last, waits no more; one
      that shows it proves that it does.
    - S16 of two who submit for a pool after having seen the same, one does; and never more than `at_most`, counted with
      those that are there and with machines that outlast theirs.
    """

    async def take(self, told: Sequence[tuple[str, Sequence[CiJob]]], at: datetime) -> list[bool]:
        """Deliveries by id, each with the jobs that it tells of: whether it was new, for each."""
        ...

    async def note(self, jobs: Sequence[CiJob], at: datetime) -> None: ...
    async def listed(self, site: Site, jobs: Sequence[CiJob], began_at: datetime, at: datetime) -> int:
        """A complete poll, begun at `began_at`, of what waits at `site`; how many jobs nobody had told of before."""
        ...

    async def believed(self, pools: Collection[str], now: datetime) -> Believed: ...
    async def begun_by(self, runners: Collection[str]) -> Mapping[str, CiJob]:
        """By those of these runners that a job is known to have been given to: the latest."""
        ...

    async def note_refused(self, job: CiJob, why: str) -> bool:
        """Whether that is new."""
        ...

    async def submit(self, pool: str, jobs: Sequence[Job], *, made: int, at_most: int) -> int:
        """Submit jobs for a pool for which `made` were submitted when that was looked at last: how many were, the first
        ones. 0 when others have submitted since."""
        ...

    async def prune(self, before: datetime) -> None:
        """Forget deliveries, and jobs that do not wait any more, last heard of before that."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """Where knowledge of waiting jobs comes from: `age_s` since it last worked, None if it never has; `trouble` why it
    does not."""

    name: str
    age_s: float | None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """`oldest_s` is how long the job has waited that has waited longest, of those that pools serve."""

    oldest_s: float = 0.0
    jobs: int = 0
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolShown:
    """A pool for people: counts of its runners by stage, how many without a job there ought to be, and why."""

    id: str
    sites: tuple[str, ...]
    labels: tuple[str, ...]
    max: int
    min_idle: int
    queued: int
    wanted: int
    runners: Mapping[str, int]
    why: tuple[str, ...]
    jobs: tuple[Mapping[str, Any], ...] = field(default_factory=tuple)
    made: tuple[Mapping[str, Any], ...] = field(default_factory=tuple)


class Demand(Protocol):
    """What the web needs of whoever knows the demand."""

    async def take(self, delivery: Delivery) -> bool:
        """A genuine webhook: whether it was new. Returns as soon as what it tells is stored."""
        ...

    async def shown(self) -> list[PoolShown]: ...
    def waiting(self) -> Waiting: ...

    @property
    def pools(self) -> Sequence[Pool]: ...


class NoDemand:
    """What a controller without pools has."""

    pools: Sequence[Pool] = ()

    async def take(self, delivery: Delivery) -> bool:
        return True

    async def shown(self) -> list[PoolShown]:
        return []

    def waiting(self) -> Waiting:
        return Waiting()


class Webhooks(Protocol):
    """Whether webhooks are genuine, and what they tell: pure functions of each forge, with its secrets."""

    def read(self, kind: str, name: str, headers: Mapping[str, str], body: bytes) -> Delivery:
        """`name` tells forges of one kind apart, "" for the only one; names of headers in lower case.

        Raises: NotFound, nothing is expected there; Unauthenticated, it is not genuine; InvalidRequest, it is not
        understood."""
        ...


class NoWebhooks:
    """What a controller without a webhook's secret has."""

    def read(self, kind: str, name: str, headers: Mapping[str, str], body: bytes) -> Delivery:
        raise NotFound("no webhooks are expected here", hint="give the forge a webhook secret in the settings")


class Redelivers(Protocol):
    """A forge that keeps webhooks which did not arrive, and sends them again when it is asked to."""

    async def redeliver(self, since: datetime) -> Sequence[str]:
        """Ids of deliveries that failed since then and are sent again. Raises: ForgeError."""
        ...
