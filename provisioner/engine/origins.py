"""Where jobs come from, and with which labels, when what told of them did not say.

A webhook of GitHub's about a job does not say whether it is a fork's, one of GitLab's not even its labels. Of a whole
run it is asked once; what the webhook of a run says is remembered. While a forge does not answer, the job waits: what
is unclear is not trusted.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from provisioner.domain.errors import ForgeError
from provisioner.domain.forge import CiJob, Forges, Site
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock
from provisioner.domain.store import Store

from .errands import Errands

_log = structlog.get_logger()
_REMEMBERED = 10_000  # arbitrary: runs of which it is known
_AT_ONCE = 8
Run = tuple[str, str, str]


@dataclass
class _Tried:
    times: int = 0
    again_s: float = 0.0


class Origins:
    def __init__(self, store: Store, forges: Forges, clock: Clock, policy: Policy, news: Callable[[], None]) -> None:
        self._store = store
        self._forges = forges
        self._clock = clock
        self._policy = policy
        self._news = news
        self._forks: OrderedDict[Run, bool] = OrderedDict()
        self._asking = Errands("ask for")
        self._tried: dict[Run | CiJob, _Tried] = {}
        self._lane = asyncio.Semaphore(_AT_ONCE)

    def told(self, base: str, repository: str, run: str, fork: bool) -> None:
        if run:
            self._forks[base, repository.lower(), run] = fork
        while len(self._forks) > _REMEMBERED:
            self._forks.popitem(last=False)

    def known(self, job: CiJob) -> CiJob:
        """With what is remembered of its run."""
        return replace(job, fork=self._forks.get(_run(job))) if job.fork is None else job

    def ask(self, jobs: Sequence[CiJob], site_of: Callable[[CiJob], Site | None]) -> None:
        """Begin to ask for what nobody asks for yet. A job whose labels are not known is asked for by itself."""
        groups: dict[Run | CiJob, list[CiJob]] = {}
        for job in jobs:
            groups.setdefault(_run(job) if job.labels and job.run_id else job, []).append(job)
        self._tried = {key: tried for key, tried in self._tried.items() if key in groups or key in self._asking}
        now_s = self._clock.monotonic()
        for key, group in groups.items():
            site = site_of(group[0])
            if site is not None and key not in self._asking and self._tried.get(key, _Tried()).again_s <= now_s:
                self._asking.start(key, self._ask(key, group, site))

    async def _ask(self, key: Run | CiJob, group: Sequence[CiJob], site: Site) -> None:
        try:
            if any(self.known(job).fork is None or not job.labels for job in group):
                async with self._lane:
                    await self._look_up(group[0], site)
            await self._store.ci_jobs.note(
                [job for job in map(self.known, group) if job.fork is not None], self._clock.now()
            )
            self._tried.pop(key, None)
        except ForgeError as error:
            tried = self._tried.setdefault(key, _Tried())
            pause_s = min(self._policy.pause_s(tried.times), self._policy.poll_every_s)
            tried.times, tried.again_s = tried.times + 1, self._clock.monotonic() + pause_s
            _log.warning("job.origin_not_told", job=group[0].id, site=site.url, error=error.message)
        finally:
            self._news()

    async def _look_up(self, job: CiJob, site: Site) -> None:
        """One that is not there yet may only not show yet: it is asked for again."""
        found = await self._forges.of(site).job(site, job.repository, job.id)
        if found is None or found.fork is None:
            raise ForgeError(f"{site.host} does not say where job {job.id} comes from")
        await self._store.ci_jobs.note([replace(found, site=job.site, attempt=job.attempt)], self._clock.now())
        self.told(*_run(job), found.fork)

    async def close(self) -> None:
        await self._asking.close()


def _run(job: CiJob) -> Run:
    return job.site.base, job.repository.lower(), job.run_id
