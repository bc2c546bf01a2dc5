"""One episode of CI runners from a seed: people launch runners, a forge gives them jobs, everything fails; then quiet.

What must be true at rest, beside what must be true of any episode: no record of ours at the forge, no row without an
end, no attempt that had two runners, and no CI job killed but by what outweighs it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from provisioner.domain.forge import CiJobState
from provisioner.domain.ids import new_id
from provisioner.domain.job import Instance, Job, JobPhase, JobSpec, MarketPolicy, Need, Outcome, RunnerSpec, Why
from provisioner.domain.reruns import RerunOutcome
from provisioner.domain.store import Store

from .episode import Episode, Protection, Tally
from .simforge import SITE, ForgeFaults, SimForge, SimJob
from .simulation import POLICY, Violation
from .virtual import SimClock

_IDLE_S = 25.0
_LINGER_S = 900.0  # what the policy looks at a site for, and more
_SURELY = timedelta(seconds=10)  # before an attempt's end is written down
_ANSWERED_S = 45.0  # an answer may be so long on its way
TAKEN = frozenset({Why.PREEMPTED, Why.LOST, Why.STOPPED, Why.LIFETIME, Why.UNHEALTHY})


class CiEpisode(Episode):
    """Its users launch runners, and queue jobs for them, at any time: some just when a runner is about to go."""

    _only_records_since_s = 0.0
    lasts_s: tuple[float, ...] = (2.0, 15.0, 60.0)

    def forge_of(self, clock: SimClock) -> SimForge:
        rng = random.Random(self._rng.random())
        faults = rng.choice((ForgeFaults.none(), ForgeFaults(), ForgeFaults(), ForgeFaults(0.3, 0.3, 0.1, 0.2, 0.7)))
        return SimForge(clock, rng, faults, refuses=self._off != "busy-refusal", shows=self._off != "busy-shown")

    def begin(self) -> None:
        forge = self._world.forge
        assert forge is not None
        self._world.spawn(forge.assign())
        self._told_begun: dict[str, datetime] = {}
        self._world.spawn(self._webhooks(forge))
        if self._rng.random() < forge.faults.outage:
            self._world.spawn(self._outage(forge))

    async def _webhooks(self, forge: SimForge) -> None:
        """That jobs have begun, late or never."""
        rng, clock = random.Random(f"{self._seed} webhooks"), self._world.clock
        while True:
            begun = await forge.begun.get()
            await clock.sleep(rng.uniform(0.05, 2.0))
            if rng.random() < 0.8:
                await self._store.port.ci_jobs.note([begun], clock.now())
                self._told_begun[begun.runner_name] = clock.now()

    async def _outage(self, forge: SimForge) -> None:
        await self._world.clock.sleep(self._rng.uniform(0.0, 120.0))
        forge.go_away(self._rng.choice((10.0, 60.0)))

    async def user(self) -> None:
        rng, clock, forge = self._rng, self._world.clock, self._world.forge
        assert forge is not None
        await clock.sleep(rng.uniform(0.0, 60.0))
        job = _runner_job(rng, clock.now())
        await self._store.port.jobs.submit(job)
        self.poke()
        assert job.spec.runner is not None
        for number in range(rng.choice((0, 1, 1, 1, 2, 3))):
            self._world.spawn(self._queue(f"{job.id}-{number}", job.spec.runner.labels))
        if rng.random() < 0.2:
            await clock.sleep(rng.uniform(0.0, 120.0))
            await self._store.port.jobs.ask_cancel(job.id, clock.now(), now=rng.random() < 0.2)
            self.poke()
        if rng.random() < 0.08:
            await clock.sleep(rng.uniform(0.0, 60.0))
            for instance in (await self._store.port.instances.find())[:1]:
                await self._store.port.instances.ask_stop(instance.id, clock.now())
            self.poke()

    async def _queue(self, key: str, labels: tuple[str, ...]) -> None:
        """Often about when a machine is up, or its runner has waited for as long as it may."""
        rng, forge = self._rng, self._world.forge
        assert forge is not None
        await self._world.clock.sleep(rng.choice((0.0, rng.uniform(20.0, 60.0), rng.uniform(40.0, 110.0))))
        forge.queue(SimJob(key, labels, rng.choice(self.lasts_s)))

    async def left(self) -> str:
        forge = self._world.forge
        assert forge is not None
        records = list(forge.records)
        rows = [row.name for row in await self._store.port.runners.there()]
        left = [await super().left(), *rows]
        if records and not any(left):
            self._only_records_since_s = self._only_records_since_s or self._world.clock.monotonic()
            if self._world.clock.monotonic() - self._only_records_since_s > _LINGER_S:
                raise Violation("10", f"at the forge for ever: {', '.join(records)}")
        return "; ".join(filter(None, [*left, *records]))

    async def check(self, tally: Tally) -> None:
        forge, store = self._world.forge, self._store.port
        assert forge is not None
        await check_killed(store, forge, TAKEN, stepped=self._world.clock.stepped)
        await self._check_reruns(forge, tally)
        tally.outcomes.update(Counter(f"ci-{job.state}{'-lost' if job.lost else ''}" for job in forge.jobs.values()))

    async def _check_reruns(self, forge: SimForge, tally: Tally) -> None:
        """What a machine cut short runs again, and gets a runner; or it is said why not."""
        store = self._store.port
        rows = {
            row.name: row for job in await store.jobs.find(limit=1000) for row in await store.runners.of_job(job.id)
        }
        for name, lost in forge.killed:
            row = rows[name]
            job, attempt = await store.jobs.get(row.job_id), await store.jobs.attempt(row.job_id, row.number)
            rerun = next((one for one in await store.reruns.of_job(row.job_id) if one.runner == name), None)
            wished = rerun is not None and rerun.lost_at is not None
            told_at = self._told_begun.get(name)
            in_time = told_at is not None and attempt.ended_at is not None and told_at < attempt.ended_at - _SURELY
            known = row.busy_at is not None or (in_time and not self._world.clock.stepped)
            instance = await store.instances.get(row.instance_id)
            if known and not wished and _nobodys_will(attempt.reason.why, job, instance):
                raise Violation(
                    "rerun", f"{lost.id} was lost with {name} ({attempt.reason}), and nobody wished it back"
                )
            if rerun is None or not wished:
                continue
            tally.outcomes[f"rerun-{rerun.outcome}"] += 1
            if rerun.pending or (rerun.outcome is RerunOutcome.ASKED) != (lost.again is not None):
                raise Violation("rerun", f"{lost.id}, lost with {name}: {rerun.outcome}, {lost.again}")
            if rerun.outcome is RerunOutcome.TOO_OFTEN and lost.number <= POLICY.reruns_most:
                raise Violation("rerun", f"{lost.id} was given up after {lost.number - 1}")
            others = [one for one in forge.jobs.values() if one.run != lost.run and _could_take(job, one.labels)]
            waits = lost.again is not None and lost.again.state is CiJobState.QUEUED
            if waits and not others and job.cancel_asked_at is None and job.outcome is not Outcome.FAILED:
                raise Violation("rerun", f"{lost.id} has no runner for its rerun, and {job.id} ended {job.outcome}")

    async def check_job(self, job: Job, tally: Tally) -> None:
        attempts = await self._store.port.jobs.attempts(job.id)
        tally.jobs += 1
        tally.attempts += len(attempts)
        tally.outcomes[str(job.outcome)] += 1
        served = sum(attempt.reason.why is Why.SERVED for attempt in attempts) or job.reason.why is Why.SERVED
        if job.phase is not JobPhase.DONE:
            raise Violation("3", f"{job.id} is {job.phase}")
        if job.outcome is Outcome.FAILED and job.reason.why in (Why.REJECTED, Why.LIFETIME, Why.FORGE, Why.LOST):
            return
        allowed = {Outcome.SUCCEEDED} if served else {Outcome.EXPIRED}
        if job.cancel_asked_at is not None:
            allowed.add(Outcome.CANCELLED)
        if job.outcome not in allowed:
            raise Violation("3", f"{job.id} ended {job.outcome} ({job.reason}) after {served} jobs")


async def check_killed(store: Store, forge: SimForge, taken: Collection[Why], *, stepped: bool) -> None:
    """No CI job was, but by whoever wanted that at once, or with a machine that ended for one of these reasons.

    Raises: Violation."""
    jobs = await store.jobs.find(limit=100_000) if forge.killed else []
    rows = {row.name: row for job in jobs for row in await store.runners.of_job(job.id)}
    for name, lost in forge.killed:
        row = rows[name]
        attempt = await store.jobs.attempt(row.job_id, row.number)
        job, instance = await store.jobs.get(row.job_id), await store.instances.get(row.instance_id)
        ends = {attempt.reason.why, instance.reason.why}
        if not job.cancel_now and ends.isdisjoint(taken):
            raise Violation("7", f"{lost.id} was killed on {name}: {attempt.reason}; {instance.reason}")
        if instance.reason.why is Why.LOST and not stepped:
            await _check_silence(store, instance, forge.told_at_work.get(name, []))


async def _check_silence(store: Store, instance: Instance, told_at_work: Sequence[datetime]) -> None:
    """Of a machine that its forge showed at work lately, silence is no sign that it is lost."""
    for event in await store.records.events(instance_id=instance.id, what="instance.stopping"):
        lately = event.at - timedelta(seconds=POLICY.silence_s - 1)
        answered = event.at - timedelta(seconds=_ANSWERED_S)
        if "silent" in event.message and any(lately < at < answered for at in told_at_work):
            raise Violation("7", f"{instance.id} was ended for its silence while its forge showed it at work")


class LossEpisode(CiEpisode):
    """Its CI jobs last so long that many lose their machine."""

    lasts_s = (60.0, 90.0)


class SilentEpisode(CiEpisode):
    """Its agents cannot be heard for longer than the controller bears with, while their runners are at work."""

    lasts_s = (200.0,)


LOSS_STRESS = {"preempted": 0.7}
SILENT_STRESS = {"cut_off": 0.9, "cut_longest_s": 150.0, "stepped": 0.0}
# What holds these up. The seed is that of an episode that breaks without it, and holds with it.
CI_PROTECTIONS: Mapping[type[CiEpisode], Sequence[Protection]] = {
    CiEpisode: (
        Protection("busy-refusal", "7", 133, "a forge removes no runner that has a job (F4)", is_the_clouds=True),
        Protection("remove-again", "10", 9, "a removal is repeated, and a record that is there after all is found"),
    ),
    LossEpisode: (
        Protection("rerun-wish", "rerun", 8, "that a CI job is to be run again is written down first", LOSS_STRESS),
    ),
    SilentEpisode: (
        Protection("busy-shown", "7", 31, "what a forge shows at work outweighs an agent's silence", SILENT_STRESS),
    ),
}


def _runner_job(rng: random.Random, now: object) -> Job:
    key = new_id("j", now, rng.getrandbits)  # type: ignore[arg-type]
    labels = ("gpu", f"run-{key}") if rng.random() < 0.7 else ("gpu",)
    runner = RunnerSpec(SITE.url, "github", labels, jobs=rng.choice(("one", "one", "many")), idle_s=_IDLE_S)
    need = Need(market=rng.choice((MarketPolicy.SPOT_FIRST, MarketPolicy.SPOT_FIRST, MarketPolicy.ON_DEMAND)))
    spec = JobSpec(run=(), kind="ci-runner", runner=runner, need=need)
    return Job(key, rng.choice(("ada", "bob")), spec, JobPhase.QUEUED, now)  # type: ignore[arg-type]


def _could_take(job: Job, labels: Collection[str]) -> bool:
    """Whether a runner of the job may be given a CI job with these labels, as forges give them out."""
    return job.spec.runner is not None and set(labels) <= set(job.spec.runner.labels)


def _nobodys_will(why: Why, job: Job, instance: Instance) -> bool:
    """Whether neither a person nor a limit ended it."""
    taken = why in (Why.PREEMPTED, Why.LOST, Why.SUPERVISOR_LOST)
    return taken and job.cancel_asked_at is None and instance.stop_asked_at is None
