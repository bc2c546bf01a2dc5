"""Runners' records at forges: made at the last moment, watched, removed before their machines go.

The row comes before the record, and stays until the forge confirms that the record is gone. Forges are asked beside the
passes, which never wait for them; a forge that does not answer stops what would be made for it, never what is removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from provisioner.domain.errors import Conflict, ForgeError, ForgeThrottled, NotFound, RunnerBusy
from provisioner.domain.facts import Report, RunnerTold
from provisioner.domain.forge import Forges, Registration, Runner, RunnerOrder, Site, runner_site
from provisioner.domain.job import NO_REASON, Attempt, Instance, InstancePhase, Job, Reason
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock
from provisioner.domain.registrar import RunnerProgram
from provisioner.domain.runners import RunnerFacts, RunnerRow, stuck, unwanted, works
from provisioner.domain.store import Event, Store

from .desk import EngineDesk
from .errands import Errands
from .observe import Observed
from .registering import Registering
from .reruns import Reruns
from .sites import Sites

_log = structlog.get_logger()


class Runners:
    """The Registrar port for agents; `turn` once a round."""

    def __init__(
        self,
        store: Store,
        forges: Forges,
        observed: Observed,
        desk: EngineDesk,
        clock: Clock,
        policy: Policy,
        reruns: Reruns,
    ) -> None:
        self._store = store
        self._forges = forges
        self._observed = observed
        self._desk = desk
        self._clock = clock
        self._policy = policy
        self._reruns = reruns
        self._rows: dict[str, RunnerRow] = {}
        self._read_s: float | None = None
        self._refused_at: dict[str, datetime] = {}
        self._failures: Counter[str] = Counter()
        self._again_s: dict[str, float] = {}
        self._stuck: set[str] = set()
        self._removing = Errands("remove")
        self._registering = Registering(clock, policy.agent_answer_s / 2)
        self.sites = Sites(store, forges, clock, policy, desk.poke)

    # What agents ask for

    async def program(self, job: Job, attempt: Attempt, instance: Instance) -> RunnerProgram:
        """What the attempt is to run. Raises: ForgeError."""
        site = self._site(job)
        row = await self._store.runners.expect(attempt, site, instance.name, self._clock.now())
        self._rows.setdefault(row.name, row)
        software = await self.sites.software(site, instance.offer.arch)
        spec = job.spec.runner
        return RunnerProgram(row.name, site, spec.labels if spec else (), software, self._forges.preinstalled(site))

    async def register(self, job: Job, attempt: Attempt) -> Registration:
        """The row is there before it is asked whether anybody still wants it: who takes the wish back meanwhile sees
        the row, and waits for the forge. Who has had a job is nobody anew: that job may be root on the machine, and ask
        in its agent's name for a runner that is given another's."""
        site, spec = self._site(job), job.spec.runner
        instance = await self._store.instances.get(attempt.instance_id)
        row = await self._store.runners.expect(attempt, site, instance.name, self._clock.now())
        job = await self._store.jobs.get(job.id)
        if spec is None or row.gone_at is not None or job.cancel_asked_at or instance.phase is not InstancePhase.READY:
            raise Conflict(f"{attempt.key} is to be no runner any more")
        if row.busy_at is not None or await self._store.ci_jobs.begun_by([row.name]):
            raise Conflict(f"{row.name} has had its job")
        order = RunnerOrder(row.name, spec.labels, spec.group, scale_set=spec.scale_set)
        owner = (site.base, site.path.partition("/")[0])  # no forge counts apart what is asked of one owner's sites
        return await self._registering.run(row.name, owner, lambda: self._made(site, row, order))

    async def _made(self, site: Site, row: RunnerRow, order: RunnerOrder) -> Registration:
        try:
            registration = await self._forges.of(site).register(site, order)
        except ForgeThrottled:
            raise  # no trouble: it is done when the forge lets it, and the machines of others may boot meanwhile
        except ForgeError as error:
            self.sites.failed(site, error)
            raise
        await self._store.runners.note(row.name, forge_id=registration.forge_id)
        self._rows[row.name] = replace(row, forge_id=registration.forge_id)
        self.sites.want(site)
        await self._tell("runner.registered", row, f"{row.name} at {site}")
        return registration

    def _site(self, job: Job) -> Site:
        if job.spec.runner is None:
            raise NotFound(f"{job.id} is no runner")
        return runner_site(job.spec.runner)

    def resume(self, site: Site) -> None:
        """It can be asked again: what failed there is tried now."""
        self.sites.resume(site)
        self._reruns.resume(site)
        for row in self._rows.values():
            if row.site == site:
                self._again_s.pop(row.name, None)
        self._desk.poke()

    # What a round does

    def of_attempts(self) -> Mapping[tuple[str, int], RunnerRow]:
        """Those that are not known to be gone."""
        return {(row.job_id, row.number): row for row in self._rows.values()}

    def count(self) -> Mapping[str, int]:
        """By instance, those that are not known to be gone, and whose forge is still waited for."""
        now = self._clock.now()
        return Counter(row.instance_id for row in self._rows.values() if not stuck(row, now, self._policy))

    def at_work(self) -> set[str]:
        """Jobs whose runner was given a CI job, and is not known to be gone."""
        return {row.job_id for row in self._rows.values() if row.busy_at is not None}

    def shown_at_work(self) -> Mapping[str, datetime]:
        """By instance, when a forge last showed a runner of its online with a job."""
        shown = {row.instance_id: self.sites.at_work_at(row.site, row.name) for row in self._rows.values()}
        return {instance_id: at for instance_id, at in shown.items() if at is not None}

    async def turn(self, live: Collection[Attempt], instances: Mapping[str, Instance], jobs: Mapping[str, Job]) -> None:
        await self._read()
        if self._rows:
            attempts = {attempt.key: attempt for attempt in live}
            for row in list(self._rows.values()):
                attempt = attempts.get(f"{row.job_id}/{row.number}")
                await self._look(self._facts(row, attempt, instances.get(row.instance_id), jobs.get(row.job_id)))
        self.sites.turn({row.site for row in self._rows.values()})

    async def _read(self) -> None:
        """Those of before are known at once; those of other controllers of this database, and of a request that was cut
        off when its row was written, within `runners_every_s`."""
        now_s = self._clock.monotonic()
        if self._read_s is not None and now_s - self._read_s < self._policy.runners_every_s:
            return
        if self._read_s is None:
            linger = timedelta(seconds=self._policy.runners_linger_s)
            self.sites.remember(await self._store.runners.sites(self._clock.now() - linger))
        self._read_s, before = now_s, self._rows.keys() | set()
        read = {row.name: row for row in await self._store.runners.there()}
        come = {name: row for name, row in self._rows.items() if name not in before}  # meanwhile
        gone = before - self._rows.keys()
        self._rows = {name: row for name, row in read.items() if name not in gone} | come
        for known in (self._refused_at, self._failures, self._again_s):
            for name in known.keys() - self._rows.keys():
                del known[name]  # another controller has removed it
        self._stuck &= self._rows.keys()

    def _facts(
        self, row: RunnerRow, attempt: Attempt | None, instance: Instance | None, job: Job | None
    ) -> RunnerFacts:
        return RunnerFacts(
            row=row,
            job=job,
            phase=instance.phase if instance else InstancePhase.GONE,
            leaving=instance.reason if instance else NO_REASON,
            attempt=attempt,
            told=_told(self._observed.reports.get(row.instance_id), attempt),
            seen=self.sites.seen(row.site, row.name),
            refused_at=self._refused_at.get(row.name),
            idle_from=self._reruns.since(row.job_id),
        )

    async def _look(self, facts: RunnerFacts) -> None:
        row = await self._noted(facts.row, facts.told, facts.seen)
        if row.busy_at is not None and self._not_heard(facts):
            self.sites.want(row.site, self._policy.silence_s / 4)
        if row.unwanted_at is not None and works(facts, self._clock.now(), self._policy):
            row = await self._noted_wanted(row)
        elif stuck(row, self._clock.now(), self._policy):
            await self._noted_stuck(row)
        if row.name in self._removing or self._clock.monotonic() < self._again_s.get(row.name, 0.0):
            return
        if (reason := unwanted(facts, self._clock.now(), self._policy)) is not None:
            self._removing.start(row.name, self._remove(row, reason))

    def _not_heard(self, facts: RunnerFacts) -> bool:
        """By any controller, for so long that what its forge says of it will soon matter."""
        if facts.attempt is None or facts.phase not in (InstancePhase.READY, InstancePhase.DRAINING):
            return False
        report = self._observed.reports.get(facts.row.instance_id)
        heard = (self._observed.elsewhere.get(facts.row.instance_id), report.heard_at if report else None)
        latest = max((at for at in heard if at is not None), default=None)
        return latest is None or (self._clock.now() - latest).total_seconds() > self._policy.silence_s / 2

    async def _noted(self, row: RunnerRow, told: RunnerTold | None, seen: Runner | None) -> RunnerRow:
        """What is seen of it for the first time is written down, and told."""
        now = self._clock.now()
        busy = (told is not None and (told.phase == "busy" or told.jobs > 0)) or (seen is not None and bool(seen.busy))
        if row.online_at is None and (busy or (seen is not None and seen.online)):
            await self._store.runners.note(row.name, online_at=now)
            await self._tell("runner.online", row, f"{row.name} waits for a job")
            row = replace(row, online_at=now)
        if row.busy_at is None and busy:
            await self._store.runners.note(row.name, busy_at=now)
            await self._tell("runner.busy", row, _what(told))
            row = replace(row, busy_at=now)
        await self._reruns.given(row, told)
        if (latest := self._rows.get(row.name)) is not None:  # it may have been made, or removed, meanwhile
            row = self._rows[row.name] = replace(row, forge_id=latest.forge_id)
        return row

    async def _noted_wanted(self, row: RunnerRow) -> RunnerRow:
        """It was to go, and was given a job before it did."""
        await self._store.runners.note(row.name, reason=NO_REASON)
        self._stuck.discard(row.name)
        if row.name in self._rows:
            row = self._rows[row.name] = replace(self._rows[row.name], reason=NO_REASON, unwanted_at=None)
        return row

    async def _noted_stuck(self, row: RunnerRow) -> None:
        if row.name in self._stuck:
            return
        self._stuck.add(row.name)
        after_s = self._policy.runner_stuck_s
        await self._tell("runner.stuck", row, f"{row.site.host} has not let it go for {after_s:g} s")
        self._desk.touch(row.instance_id)
        self._desk.poked.add(row.instance_id)

    async def _remove(self, row: RunnerRow, reason: Reason) -> None:
        """The reason is written down first: whoever judges the attempt's end may come before the forge's answer."""
        now = self._clock.now()
        await self._store.runners.note(row.name, reason=reason, unwanted_at=now)
        if row.unwanted_at is None and (latest := self._rows.get(row.name)) is not None:
            self._rows[row.name] = replace(latest, reason=reason, unwanted_at=now)
        try:
            await self._forges.of(row.site).remove(row.site, row.forge_id, row.name)
        except RunnerBusy:
            self._refused_at[row.name] = self._clock.now()
            self._later(row.name, self._policy.runner_busy_s)
            await self._noted_wanted(row)
        except ForgeError as error:
            self._failures[row.name] += 1
            self._later(row.name, self._policy.pause_s(self._failures[row.name]))
            if self._failures[row.name] == 1:
                await self._tell("runner.not_removed", row, error.line)
        else:
            await self._gone(row)

    async def _gone(self, row: RunnerRow) -> None:
        await self._store.runners.note(row.name, gone_at=self._clock.now())
        for known in (self._rows, self._refused_at, self._failures, self._again_s):
            known.pop(row.name, None)
        self._registering.forget(row.name)
        await self._tell("runner.gone", row, f"{row.name} is not at {row.site} any more")
        self._desk.touch(row.instance_id)
        self._desk.poked.add(row.instance_id)
        self._desk.poke()

    def _later(self, name: str, seconds: float) -> None:
        self._again_s[name] = self._clock.monotonic() + seconds

    async def _tell(self, what: str, row: RunnerRow, message: str) -> None:
        now, data = self._clock.now(), {"runner": row.name, "site": row.site.url}
        await self._store.records.record(Event(what, now, message, row.job_id, row.number, row.instance_id, data))

    async def close(self) -> None:
        await self._removing.close()
        await self._registering.close()
        await self.sites.close()


def _told(report: Report | None, attempt: Attempt | None) -> RunnerTold | None:
    if report is None or attempt is None:
        return None
    mine = (attempt.job_id, attempt.number)
    return next((told.runner for told in report.attempts if (told.job_id, told.number) == mine), None)


def _what(told: RunnerTold | None) -> str:
    job = told.job if told is not None else {}
    return " ".join(job[key] for key in ("repository", "job", "run") if job.get(key)) or "it was given a job"
