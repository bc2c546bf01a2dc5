"""Having the forge run again what a machine cut short, once its run has ended.

The wish is written down before the attempt's end, and asked for beside the passes until it is done, refused or too
late. Meanwhile a runner that serves that one job gets no machine: after the rerun it is planned like any waiting job,
on-demand after interruptions, and the job waits at the forge for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from provisioner.domain.errors import (
    Conflict,
    ForgeError,
    ForgeRefused,
    ForgeThrottled,
    ForgeUnauthorized,
    ForgeUnreachable,
    NotFound,
    StaleWrite,
    StillRunning,
)
from provisioner.domain.facts import AttemptReport, RunnerTold
from provisioner.domain.forge import CiJob, Forge, Forges, Given, Site
from provisioner.domain.job import Job, JobPhase, Outcome, Reason, Why
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock
from provisioner.domain.reruns import (
    Rerun,
    RerunOutcome,
    believable,
    cut_short,
    given_up,
    held_back,
    too_late,
    unneeded,
)
from provisioner.domain.runners import RunnerRow
from provisioner.domain.store import Event, Store

from .errands import Errands
from .verdicts import Trial

_REMEMBERED = 10_000  # jobs; arbitrary: far more than have runners at once
_TOLD_WITHIN = timedelta(minutes=10)  # arbitrary: webhooks that were lost are sent again by then
_WAITS = "its CI job was cut short, and waits to be run again"
_ENDS = {
    RerunOutcome.NOT_NEEDED: "it had ended well",
    RerunOutcome.TOO_OFTEN: "it was run again as often as is allowed",
    RerunOutcome.TOO_LATE: "its run has not ended for so long",
    RerunOutcome.CANCELLED: "the runner for it is not wanted any more",
    RerunOutcome.UNKNOWN: "its forge does not say which it was",
}
# How a runner of one job ends with the wish: nobody asks for it any more.
_OVER = {
    RerunOutcome.NOT_NEEDED: (Outcome.SUCCEEDED, Reason(Why.SERVED, "its CI job had ended well all the same")),
    RerunOutcome.TOO_OFTEN: (Outcome.FAILED, Reason(Why.LOST, "its CI job was run again as often as is allowed")),
}


class Reruns:
    """`turn` once a round; `free` says which jobs are not held back."""

    def __init__(self, store: Store, forges: Forges, news: Callable[[], None], clock: Clock, policy: Policy) -> None:
        self._store = store
        self._forges = forges
        self._news = news
        self._clock = clock
        self._policy = policy
        self._pending: dict[str, Rerun] = {}
        self._stale = True
        self._named: set[str] = set()
        self._asked_at: dict[str, datetime] = {}
        self._again_s: dict[str, float] = {}
        self._asking = Errands("rerun")

    @property
    def pending(self) -> Collection[Rerun]:
        return self._pending.values()

    # What is noted of runners

    async def given(self, row: RunnerRow, told: RunnerTold | None) -> None:
        """What its program says of the job that it was given, as long as there is somebody to say it."""
        job = told.job if told is not None else {}
        await self._given(row, job.get("repository", ""), job.get("run", ""), job.get("job", ""))

    async def _given(self, row: RunnerRow, repository: str, run_id: str, name: str) -> None:
        if row.name not in self._named and believable(row.site, repository, run_id):
            await self._store.reruns.given(row, repository, run_id, name)
            self._named.add(row.name)

    async def ended(self, trial: Trial, reason: Reason, told: AttemptReport | None) -> None:
        """The attempt is about to end for `reason`: called before its row moves, so that a crash repeats it."""
        row = trial.runner
        if row is None:
            return
        begun = (await self._store.ci_jobs.begun_by([row.name])).get(row.name)
        if cut_short(trial.job, trial.instance, row, reason, told, begun=begun is not None):
            await self.given(row, told.runner if told else None)
            if begun is not None:
                await self._given(row, begun.repository, begun.run_id, begun.name)
            await self._store.reruns.lost(row, self._clock.now())
            self._stale = True
        self._named.discard(row.name)

    def since(self, job_id: str) -> datetime | None:
        """From when on a runner of the job may count as idle: now, while something is to be run again for it."""
        if any(rerun.job_id == job_id for rerun in self._pending.values()):
            return self._clock.now()
        return self._asked_at.get(job_id)

    def resume(self, site: Site) -> None:
        """It can be asked again: what failed there is tried at the next turn."""
        for rerun in self._pending.values():
            if rerun.site == site:
                self._again_s.pop(rerun.runner, None)

    # What a round does

    async def turn(self, waiting: Collection[Job]) -> None:
        """Those that another controller of this database has written down are its runner's as well."""
        if self._stale or self._pending or any(job.spec.runner is not None and job.attempts for job in waiting):
            self._stale = False
            self._pending = {rerun.runner: rerun for rerun in await self._store.reruns.pending()}
        for rerun in self._pending.values():
            if rerun.runner not in self._asking and self._clock.monotonic() >= self._again_s.get(rerun.runner, 0.0):
                self._asking.start(rerun.runner, self._ask(rerun))

    async def free(self, jobs: Sequence[Job], busy: Collection[str]) -> list[Job]:
        """Those that may have a machine; `busy` are the jobs whose runner works. One that is about to lose its machine
        at work will have its CI job run again first."""
        wanted = {rerun.job_id for rerun in self._pending.values()} | set(busy)
        held = [job for job in jobs if job.id in wanted and held_back(job)]
        for job in held:
            if job.phase is JobPhase.QUEUED and job.reason.detail != _WAITS:
                await self._store.jobs.explain(job, Reason(Why.FORGE, _WAITS), self._clock.now())
        ids = {job.id for job in held}
        return [job for job in jobs if job.id not in ids]

    async def _ask(self, rerun: Rerun) -> None:
        self._again_s[rerun.runner] = self._clock.monotonic() + self._policy.retry_backoff_s
        try:
            outcome, message = await self._outcome(rerun), ""
        except (ForgeRefused, ForgeUnauthorized) as error:
            outcome, message = RerunOutcome.REFUSED, error.line
        except ForgeError as error:
            if not too_late(rerun, self._clock.now(), self._policy):
                await self._later(rerun, error)
                return
            outcome, message = RerunOutcome.TOO_LATE, "" if isinstance(error, StillRunning) else error.line
        await self._done(rerun, outcome, message)

    async def _outcome(self, rerun: Rerun) -> RerunOutcome:
        """Raises: ForgeError; StillRunning when it is to be asked again."""
        job = await self._job(rerun.job_id)
        if job is not None and given_up(job):
            return RerunOutcome.CANCELLED
        forge = self._forge(rerun)
        ci = await self._ci_job(forge, rerun)
        if ci is None:
            return RerunOutcome.UNKNOWN
        named = rerun
        if not rerun.ci_id:
            await self._store.reruns.found(rerun.runner, ci)
            known = {"repository": ci.repository, "run_id": ci.run_id, "ci_attempt": ci.attempt, "ci_name": ci.name}
            named = replace(rerun, **known)  # type: ignore[arg-type]
        if outcome := unneeded(named, ci):
            return outcome
        if await self._store.reruns.asked(named) >= self._policy.reruns_most:
            return RerunOutcome.TOO_OFTEN
        await forge.rerun(rerun.site, ci)
        return RerunOutcome.ASKED

    def _forge(self, rerun: Rerun) -> Forge:
        """That this controller has no rights there now, having lost them perhaps with its memory, is no refusal."""
        try:
            return self._forges.of(rerun.site)
        except ForgeUnauthorized as error:
            raise ForgeUnreachable(error.line) from error

    async def _ci_job(self, forge: Forge, rerun: Rerun) -> CiJob | None:
        if rerun.ci_id:
            return await forge.job(rerun.site, rerun.repository, rerun.ci_id)
        if not (rerun.repository and rerun.run_id):
            return await self._told_of(forge, rerun)
        said = Given(rerun.repository, rerun.run_id, rerun.runner, rerun.forge_id, rerun.ci_name)
        return await forge.taken(rerun.site, said)

    async def _told_of(self, forge: Forge, rerun: Rerun) -> CiJob | None:
        """Its agent did not say which it was, but a webhook may, late perhaps."""
        begun = (await self._store.ci_jobs.begun_by([rerun.runner])).get(rerun.runner)
        if begun is not None and believable(rerun.site, begun.repository, begun.run_id):
            return await forge.job(rerun.site, begun.repository, begun.id)
        if rerun.lost_at is not None and self._clock.now() - rerun.lost_at < _TOLD_WITHIN:
            raise StillRunning("nobody has said yet which CI job it was")
        return None

    async def _job(self, job_id: str) -> Job | None:
        try:
            return await self._store.jobs.get(job_id)
        except NotFound:
            return None

    async def _later(self, rerun: Rerun, error: ForgeError) -> None:
        pause = self._policy.pause_s(rerun.tries)
        if isinstance(error, ForgeThrottled):
            pause = max(pause, error.retry_after_s)
        self._again_s[rerun.runner] = self._clock.monotonic() + pause
        if rerun.tries == 0:
            await self._tell("ci.rerun_waits", rerun, error.line)
        await self._store.reruns.tried(rerun.runner, rerun.tries + 1)

    async def _done(self, rerun: Rerun, outcome: RerunOutcome, message: str) -> None:
        now = self._clock.now()
        what = "ci.rerun" if outcome is RerunOutcome.ASKED else "ci.rerun_refused"
        if outcome in _OVER and (job := await self._job(rerun.job_id)) is not None and held_back(job):
            try:
                await self._store.jobs.finish(job, *_OVER[outcome], now)
            except (Conflict, StaleWrite):
                return  # its attempt's end is being written, or why it waits: it is asked again
        await self._tell(what, rerun, message or _ENDS.get(outcome, str(rerun.site)))
        await self._store.reruns.done(rerun.runner, outcome, now)
        self._asked_at.pop(rerun.job_id, None)  # the latest last
        self._asked_at[rerun.job_id] = now
        while len(self._asked_at) > _REMEMBERED:
            del self._asked_at[next(iter(self._asked_at))]
        self._again_s.pop(rerun.runner, None)
        self._stale = True
        self._news()

    async def _tell(self, what: str, rerun: Rerun, message: str) -> None:
        data = {"runner": rerun.runner, "site": rerun.site.url, "repository": rerun.repository, "run": rerun.run_id}
        await self._store.records.record(Event(what, self._clock.now(), message, rerun.job_id, rerun.number, data=data))

    async def close(self) -> None:
        await self._asking.close()
