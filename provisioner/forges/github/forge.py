"""The Forge port over GitHub's REST API.

A runner is registered by making its JIT configuration, which makes its record at once: an answer that was lost leaves
a record, found again by its name and made anew. GitHub itself is the judge of who is busy: it refuses to delete such
a runner, so nothing is looked at first and acted on later.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from provisioner.domain.errors import ForgeRefused, ForgeUnauthorized, ForgeUnreachable, RunnerBusy, StillRunning
from provisioner.domain.forge import (
    PREFIX,
    CiJob,
    Counted,
    Given,
    Registration,
    Release,
    Runner,
    RunnerOrder,
    Site,
    Software,
)
from provisioner.domain.ports import Clock

from ..line import TIMEOUT_S, Line
from ..rest import Rest
from ..turns import Turns
from . import shapes
from .account import REGISTRATION, Account
from .addresses import below, repository_of
from .credentials import App, Token
from .queue import waiting
from .reviews import Discussions
from .scale_set import ScaleSets
from .software import Listed, find_software
from .steps import KIND

AT_ONCE = 60  # arbitrary, of a hundred that GitHub allows one identity: a minute's registrations are sent in a second
VISIBILITY_S = 30.0  # arbitrary: listings were seen to be late by seconds; GitHub promises nothing
_LOOK_AGAIN_S = (1.0, 3.0, 6.0)  # for a record that is there, since its name is taken, and does not show yet
_DEFAULT_GROUP = 1  # Source: GitHub REST, "Create configuration for a just-in-time runner": 1 is Default
_MOST_REMEMBERED = 10_000  # arbitrary


class GitHub(Discussions):
    """Opened with one credential at one web address, `base`. It keeps no more than what it may forget."""

    kind = KIND

    def __init__(
        self,
        base: str,
        credential: App | Token,
        clock: Clock,
        *,
        api: str = "",
        release: Release | None = None,
        timeout_s: float = TIMEOUT_S,
        visibility_s: float = VISIBILITY_S,
        line: Line | None = None,
    ) -> None:
        self.visibility_s = visibility_s
        self._line = line or Line(timeout_s, AT_ONCE)
        self._clock = clock
        self.account = Account(base, credential, clock, self._line, api)
        self.scale_sets = ScaleSets(self.account, clock, self._line)
        self._ids: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._groups: dict[tuple[str, str], int] = {}
        self._turns = Turns()
        self._release = release or Release()

    async def register(self, site: Site, order: RunnerOrder) -> Registration:
        """By the REST API, or by its scale set's."""
        rest = await self.account.at(site)
        if order.scale_set:
            made = partial(self.scale_sets.configure, site, order.labels, order.group, order.name)
        else:
            group = await self._group(rest, site, order.group)
            body = {"name": order.name, "runner_group_id": group, "labels": list(order.labels)}
            made = partial(self._configured, rest, site, body)
        return await self._turns.run(f"{site.path} {order.name}", lambda: self._register(rest, site, order.name, made))

    async def runners(self, site: Site) -> Sequence[Runner]:
        rest = await self.account.at(site)
        found = await rest.pages(f"{below(site)}/actions/runners", {"per_page": "100"}, key="runners")
        return Counted((shapes.runner(told) for told in found if told["name"].startswith(PREFIX)), found.cost)

    async def remove(self, site: Site, forge_id: str, name: str) -> None:
        await self._remove(await self.account.at(site), site, forge_id, name)

    async def queued(self, site: Site) -> Sequence[CiJob]:
        return await waiting(await self.account.at(site), site)

    async def job(self, site: Site, repository: str, job_id: str) -> CiJob | None:
        rest = await self.account.at(site)
        told = await self._job(rest, repository, job_id)
        if told is None:
            return None
        run = await rest.call("GET", f"{repository_of(repository)}/actions/runs/{told['run_id']}")
        return shapes.job(told, site, repository, shapes.from_fork(run.body))

    async def taken(self, site: Site, given: Given) -> CiJob | None:
        """A later attempt shows what it carried over as well, under its runner of before."""
        rest = await self.account.at(site)
        path = f"{repository_of(given.repository)}/actions/runs/{given.run_id}/jobs"
        listed = await rest.pages(path, {"filter": "all", "per_page": "100"}, key="jobs")
        said = [shapes.job(told, site, given.repository, None) for told in listed]
        mine = [job for job in said if job.runner_name == given.runner_name]
        return min(mine, key=lambda job: (job.attempt, int(job.id)), default=None)

    async def rerun(self, site: Site, job: CiJob) -> None:
        """GitHub says the same of a run that still runs and of one that we may not touch: the run itself tells."""
        rest = await self.account.at(site)
        run = f"{repository_of(job.repository)}/actions/runs/{job.run_id}"
        if await self._ran_again(rest, run, job):
            return
        path = f"{repository_of(job.repository)}/actions/jobs/{job.id}/rerun"
        for _ in range(2):
            if (await rest.call("POST", path, expect=(403,))).status != 403:
                return
            if (await rest.call("GET", run)).body["status"] != "completed":
                raise StillRunning(f"the run of {job.url or job.id} has not ended")
        raise ForgeUnauthorized(f"POST {path}: 403", hint="the credential needs Actions: write")

    async def software(self, site: Site, system: str, machine: str) -> Software:
        listed = Listed(await self.account.at(site), below(site))
        return await find_software(listed, self._line, self._release, system, machine)

    async def close(self) -> None:
        await self._turns.close()
        await self.scale_sets.close()
        await self._line.close()

    async def _configured(self, rest: Rest, site: Site, body: Mapping[str, Any]) -> tuple[str, str] | None:
        """The new runner's id and its JIT configuration; None: there is one of that name."""
        path = f"{below(site)}/actions/runners/generate-jitconfig"
        answer = await rest.call("POST", path, body=body, expect=(409,), resource=REGISTRATION)
        return None if answer.status == 409 else (str(answer.body["runner"]["id"]), answer.body["encoded_jit_config"])

    async def _register(
        self, rest: Rest, site: Site, name: str, configured: Callable[[], Awaitable[tuple[str, str] | None]]
    ) -> Registration:
        for wait_s in (0.0, *_LOOK_AGAIN_S):
            if wait_s:
                await self._clock.sleep(wait_s)
            if (made := await configured()) is not None:
                self._remember(site, name, made[0])
                return Registration(made[0], name, made[1])
            await self._remove(rest, site, self._ids.get((site.path, name), ""), name)
        raise ForgeUnreachable(f"the name {name} is taken at {site.url}, and no runner shows under it")

    async def _remove(self, rest: Rest, site: Site, forge_id: str, name: str) -> None:
        """By its id, and then by its name: it may have been made anew, and the answer lost."""
        path = f"{below(site)}/actions/runners"
        if forge_id and await self._delete(rest, f"{path}/{forge_id}", name):
            return
        query = {"name": name, "per_page": "100"}
        found = await rest.call("GET", path, query=query, removal=True)
        for told in found.body["runners"]:
            if told["name"] == name and str(told["id"]) != forge_id:
                await self._delete(rest, f"{path}/{told['id']}", name)

    async def _delete(self, rest: Rest, path: str, name: str) -> bool:
        """Whether it was there."""
        answer = await rest.call("DELETE", path, expect=(404, 422), removal=True)
        if answer.status == 422:
            raise RunnerBusy(f"{name} has a job", hint="it goes when that has ended")
        return answer.status != 404

    async def _group(self, rest: Rest, site: Site, name: str) -> int:
        if not name:
            return _DEFAULT_GROUP
        if "/" in site.path and not site.path.startswith("enterprises/"):
            raise ForgeRefused(
                "a repository has no runner groups", hint="register at its organisation, or leave it out"
            )
        if (site.path, name) not in self._groups:
            path = f"{below(site)}/actions/runner-groups"
            for told in await rest.pages(path, {"per_page": "100"}, key="runner_groups"):
                self._groups[site.path, told["name"]] = int(told["id"])
        if (site.path, name) not in self._groups:
            raise ForgeRefused(f"{site.url} has no runner group {name!r}", hint="make it there, or name another")
        return self._groups[site.path, name]

    async def _job(self, rest: Rest, repository: str, job_id: str) -> Any:
        if not job_id.isdecimal():
            return None
        answer = await rest.call("GET", f"{repository_of(repository)}/actions/jobs/{job_id}", expect=(404,))
        return answer.body if answer.status == 200 else None

    async def _ran_again(self, rest: Rest, run: str, job: CiJob) -> bool:
        """Whether a later attempt began this job anew: what it only carried over began when the job itself did."""
        mine = await self._job(rest, job.repository, job.id)
        if mine is None:
            raise ForgeRefused(f"there is no job {job.id} at {job.repository}")
        latest = await rest.pages(f"{run}/jobs", {"filter": "latest", "per_page": "100"}, key="jobs")
        return any(
            told["name"] == mine["name"]
            and int(told.get("run_attempt") or 1) > job.attempt
            and (told["status"] != "completed" or told["started_at"] > mine["started_at"])
            for told in latest
        )

    def _remember(self, site: Site, name: str, forge_id: str) -> None:
        self._ids[site.path, name] = forge_id
        if len(self._ids) > _MOST_REMEMBERED:
            self._ids.popitem(last=False)
