"""How many runners a pool ought to have now, for whom, and which of those it has are too many: pure.

In: the CI jobs that wait, from whichever source; the pool's runners; the time. Out: what to submit and what to retire.
Counts only. A forge gives a job to any runner that has its labels, so no runner is anybody's: there are to be as many
that have no job as there are jobs that wait. Whoever loses one finds the next, and an event that never came or came
twice changes nothing once the job itself is known.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

from .forge import CiJob, Site, serves
from .job import Need

Key = tuple[str, str, int]  # of a CI job: CiJob.key
NAMED = "pool/"  # what the name of every job of a pool begins with, and the owner of its machines
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Window:
    """A time of the week: from `begins` until `ends` (minutes after midnight, in `zone`) of each of `days` (Monday is
    0). One that ends before it begins ends on the next day."""

    days: frozenset[int]
    begins: int
    ends: int
    zone: str = "UTC"

    def holds(self, now: datetime) -> bool:
        here = now.astimezone(ZoneInfo(self.zone))
        minute, today = here.hour * 60 + here.minute, here.weekday()
        if self.begins < self.ends:
            return today in self.days and self.begins <= minute < self.ends
        return (today in self.days and minute >= self.begins) or ((today - 1) % 7 in self.days and minute < self.ends)


@dataclass(frozen=True, slots=True)
class Pool:
    """Runners with `labels` at `sites`, on machines that `need` describes.

    `max` counts its runners, and machines of it that are still there without one. `min_idle` are kept ready beside
    those that jobs wait for: in the `windows`, or always when there are none. `per_repository` is the most that one
    repository's jobs are given at once. One that has waited for `idle_timeout_s` and is too many goes. `forks`: jobs
    that come from forks are served, too. `scale_set`: the forge itself knows the pool, by its one label, keeps a
    queue of its jobs, and gives them to its runners alone."""

    name: str
    sites: tuple[Site, ...]
    labels: tuple[str, ...]
    need: Need = field(default_factory=Need)
    max: int = 1
    min_idle: int = 0
    per_repository: int | None = None
    idle_timeout_s: float = 600.0
    max_lifetime_s: float | None = None
    windows: tuple[Window, ...] = ()
    forks: bool = False
    group: str = ""
    scale_set: bool = False

    @property
    def job_name(self) -> str:
        return NAMED + self.name

    def site_of(self, job: CiJob) -> Site | None:
        """The narrowest of its sites at which a runner would be given the job, were the labels right."""
        found = [site for site in self.sites if covers(site, job)]
        return max(found, key=lambda site: len(site.path), default=None)

    def suits(self, job: CiJob) -> bool:
        return bool(job.labels) and serves(self.labels, job.labels) and self.site_of(job) is not None

    def idle_at(self, now: datetime) -> int:
        return self.min_idle if not self.windows or any(window.holds(now) for window in self.windows) else 0


def covers(site: Site, job: CiJob) -> bool:
    """Whether a runner at `site` may be given jobs of the job's repository."""
    if job.site.base != site.base:
        return False
    above, path = site.path.lower(), job.repository.lower()
    return not above or path == above or path.startswith(f"{above}/")


@dataclass(frozen=True, slots=True)
class Sorted:
    """`by_pool` has the name of each pool. `refused`: what no pool may serve, and why. `untold`: what may have
    to be served, were it known where it comes from, or what its labels are."""

    by_pool: dict[str, list[CiJob]]
    refused: list[tuple[CiJob, str]]
    untold: list[CiJob]


def sort_out(pools: Sequence[Pool], jobs: Iterable[CiJob]) -> Sorted:
    """Each job once: to the pool that fits it most narrowly, by labels and then by site, of those that may serve it."""
    found = Sorted({pool.name: [] for pool in pools}, [], [])
    verdicts: dict[object, tuple[Pool | None, str | None]] = {}
    for job in sorted(jobs, key=lambda job: (job.created_at, job.key)):
        alike = (job.site.base, job.repository, job.labels, job.fork)
        if alike not in verdicts:  # of many that wait, few differ in what matters here
            verdicts[alike] = _verdict(pools, job)
        pool, why_not = verdicts[alike]
        if pool is not None:
            found.by_pool[pool.name].append(job)
        elif why_not is None:
            found.untold.append(job)
        elif why_not:
            found.refused.append((job, why_not))
    return found


def _verdict(pools: Sequence[Pool], job: CiJob) -> tuple[Pool | None, str | None]:
    """The pool that serves it, or why none may: "" when it is nobody's, None when that is not known yet."""
    fitting = [pool for pool in pools if pool.suits(job)]
    if admitting := [pool for pool in fitting if pool.forks or job.fork is False]:
        return min(admitting, key=lambda pool: _width(pool, job)), ""
    if job.fork is None and (fitting or (not job.labels and any(pool.site_of(job) for pool in pools))):
        return None, None
    names = ", ".join(pool.name for pool in fitting)
    return None, f"it comes from a fork, and forks are not trusted by {names}" if fitting else ""


def _width(pool: Pool, job: CiJob) -> tuple[int, int, str]:
    site = pool.site_of(job)
    return len(pool.labels), -len(site.path) if site else 0, pool.name


@dataclass(frozen=True, slots=True)
class Taken:
    """A runner of ours, with `labels`, says that it has a job: `job` and `run` as the forge names them, "" where it did
    not say."""

    runner: str
    site: Site
    labels: tuple[str, ...]
    repository: str
    run: str
    job: str
    at: datetime


def untaken(jobs: Iterable[CiJob], taken: Iterable[Taken]) -> list[CiJob]:
    """The jobs that still wait, less one for each runner that was heard to have begun one of them.

    Which of a run's jobs it was is not told, and does not matter: they are counted. So are all that a runner may have
    begun whose program does not say of which run it has one (Forgejo's has no hooks): those that waited by then."""
    left = sorted(jobs, key=lambda job: (job.created_at, job.key))
    for one in taken:
        mine = [job for job in left if _may_be(job, one)]
        exact = next((job for job in mine if one.job and one.job in (job.id, job.name)), None)
        if (found := exact or next(iter(mine), None)) is not None:
            left.remove(found)
    return left


def _may_be(job: CiJob, taken: Taken) -> bool:
    if not covers(taken.site, job) or not serves(taken.labels, job.labels):
        return False
    if not taken.run:
        return job.created_at <= taken.at
    return job.run_id == taken.run and job.repository.lower() == taken.repository.lower()


class Stage(StrEnum):
    """Of a runner, or of what is to be one."""

    WAITING = "waiting"  # no machine yet
    COMING = "coming"
    IDLE = "idle"
    BUSY = "busy"
    ENDING = "ending"


FREE = frozenset({Stage.WAITING, Stage.COMING, Stage.IDLE})


@dataclass(frozen=True, slots=True)
class PoolRunner:
    """`repository` is what its job is of, or, before it has one, whose job it was made for; "" for nobody's.
    `on_demand`: it was asked for as such."""

    job_id: str
    site: Site
    repository: str
    stage: Stage
    idle_s: float = 0.0
    on_demand: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """A runner to submit, for a repository's job, or ("") to be kept ready; `on_demand` where there is any such."""

    site: Site
    repository: str = ""
    on_demand: bool = False


@dataclass(frozen=True, slots=True)
class Supply:
    """`wanted` runners without a job there ought to be, `idle` of them for no job yet; `held_back` jobs have to wait:
    `capped` of them for others of their repository, the rest because the pool is full."""

    launch: tuple[Ask, ...] = ()
    retire: tuple[str, ...] = ()
    wanted: int = 0
    idle: int = 0
    held_back: int = 0
    capped: int = 0


def supply(
    pool: Pool,
    queued: Sequence[CiJob],
    runners: Sequence[PoolRunner],
    machines: int,
    now: datetime,
    again: Collection[Key] = (),
) -> Supply:
    """`queued` are the pool's, oldest first; `machines` those of it that are there without any of `runners`. `again`:
    a machine was lost with these before; as many of the runners that they lack are to be on-demand."""
    jobs, capped = _within_caps(pool, queued, runners)
    wanted = Counter(site for site, _ in jobs)
    lost = Counter(site for site, job in jobs if job.key in again)
    free = Counter(runner.site for runner in runners if runner.stage in FREE)
    idle = pool.idle_at(now)
    room = max(0, pool.max - len(runners) - machines)
    short = {site: max(0, count - free[site]) for site, count in wanted.items()}
    launch = _on_demand(_fairly(jobs, runners, short, room), lost, runners)
    missing = max(0, wanted[pool.sites[0]] + idle - free[pool.sites[0]] - short.get(pool.sites[0], 0))
    launch += [Ask(pool.sites[0])] * min(missing, room - len(launch))
    full = sum(short.values()) - min(sum(short.values()), room)
    targets = wanted + Counter({pool.sites[0]: idle})
    retire = _too_many(pool, runners, targets, lost, pressed=full > 0)
    return Supply(tuple(launch), tuple(retire), targets.total(), idle, full + capped, capped)


def _within_caps(
    pool: Pool, queued: Sequence[CiJob], runners: Sequence[PoolRunner]
) -> tuple[list[tuple[Site, CiJob]], int]:
    """Those that may have a runner now, and how many others have to wait for ones of their own repository to end."""
    at_work = Counter(runner.repository.lower() for runner in runners if runner.stage is Stage.BUSY)
    allowed: list[tuple[Site, CiJob]] = []
    sites: dict[tuple[str, str], Site | None] = {}
    capped = 0
    for job in queued:
        where = (job.site.base, job.repository)
        if where not in sites:
            sites[where] = pool.site_of(job)
        if (site := sites[where]) is None:
            continue
        key = job.repository.lower()
        if pool.per_repository is not None and at_work[key] >= pool.per_repository:
            capped += 1
            continue
        at_work[key] += 1
        allowed.append((site, job))
    return allowed, capped


def _fairly(
    jobs: Sequence[tuple[Site, CiJob]], runners: Sequence[PoolRunner], short: dict[Site, int], room: int
) -> list[Ask]:
    """One after the other to whichever repository has fewest, and of those to the one whose job has waited longest."""
    if room <= 0 or not any(short.values()):
        return []
    has = Counter((runner.site, runner.repository.lower()) for runner in runners if runner.stage is not Stage.ENDING)
    made = Counter((runner.site, runner.repository.lower()) for runner in runners if runner.stage in FREE)
    unserved: dict[tuple[Site, str], list[CiJob]] = {}
    for site, job in jobs:
        unserved.setdefault((site, job.repository.lower()), []).append(job)
    heap = [
        (has[key], rest[0].created_at, key[1], index, key, rest)
        for index, (key, mine) in enumerate(unserved.items())
        if (rest := mine[made[key] :])
    ]
    heapq.heapify(heap)
    left, asks = dict(short), list[Ask]()
    while heap and len(asks) < room:
        count, _, name, index, key, mine = heapq.heappop(heap)
        if left[key[0]] <= 0:
            continue
        left[key[0]] -= 1
        asks.append(Ask(key[0], mine[0].repository))
        if rest := mine[1:]:
            heapq.heappush(heap, (count + 1, rest[0].created_at, name, index, key, rest))
    return asks


def _on_demand(asks: Sequence[Ask], lost: Counter[Site], runners: Sequence[PoolRunner]) -> list[Ask]:
    """The first ones at each site, until there are as many without a job as jobs that lost a machine before. Whose
    they are does not matter: any of them may be given any of the jobs."""
    lacking = lost - Counter(runner.site for runner in runners if runner.on_demand and runner.stage in FREE)
    found = []
    for ask in asks:
        found.append(replace(ask, on_demand=lacking[ask.site] > 0))
        lacking[ask.site] -= 1
    return found


def _too_many(
    pool: Pool, runners: Sequence[PoolRunner], targets: Counter[Site], lost: Counter[Site], *, pressed: bool
) -> list[str]:
    """What has no machine yet goes at once, what has one when it has waited long enough; sooner if its place is needed
    for a job elsewhere. On-demand ones stay while as many jobs wait that lost a machine before."""
    at_once = pressed or pool.idle_timeout_s <= 0
    found = []
    for site in dict.fromkeys(runner.site for runner in runners):
        free = [runner for runner in runners if runner.site == site and runner.stage in FREE]
        over = len(free) - targets[site]
        if over <= 0:
            continue
        spared = [runner for runner in free if runner.on_demand][: lost[site]]
        free = [runner for runner in free if runner not in spared]
        waiting = [runner for runner in free if runner.stage is Stage.WAITING]
        coming = [runner for runner in free if runner.stage is Stage.COMING and at_once]
        idle = [r for r in free if r.stage is Stage.IDLE and (at_once or r.idle_s >= pool.idle_timeout_s)]
        going = waiting + coming + sorted(idle, key=lambda runner: (-runner.idle_s, runner.job_id))
        found += [runner.job_id for runner in going[:over]]
    return found


def owner_of(pool: Pool, ask: Ask) -> str:
    """Whose the runner's job is: the repository's in this pool, among which the queue is fair."""
    return f"{pool.job_name}/{ask.site.host}/{ask.repository}"


def job_name_of(owner: str) -> str:
    """Of the pool's jobs, by an owner as above or a machine's."""
    return "/".join(owner.split("/", 2)[:2])


@lru_cache(maxsize=8192)
def repository_of(owner: str) -> str:
    """What `owner_of` was given."""
    return owner.split("/", 3)[3] if owner.count("/") >= 3 else ""
