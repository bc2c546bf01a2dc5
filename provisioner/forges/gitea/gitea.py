"""Gitea's own ways, 1.25 and newer.

It has no API that makes a runner: the controller does what the runner program does to register, with a registration
token that it asks for and keeps to itself, and hands on what came of it. Gitea deletes a runner that has a job without
a word, so that (from 1.26 on) it is disabled first. Source: go-gitea/gitea routers/api, services/actions, 2026.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from provisioner.domain.errors import ForgeError, ForgeRefused, RunnerBusy, StillRunning
from provisioner.domain.forge import CiJob, CiJobState, Given, Registration, Runner, RunnerOrder, Site

from ..rest import Rest
from . import secret
from .program import GITEA
from .server import Server, numbered, repository

_REGISTER = "/api/actions/runner.v1.RunnerService/Register"
_NO_SUCH_ROUTE = (404, 405)
_PULL = re.compile(r".*@refs/pull/(\d+)/(?:head|merge)")
_PLACE = re.compile(r".*/api/v1/repos/([^/]+/[^/]+)/actions/")
_STATES = {"completed": CiJobState.DONE, "in_progress": CiJobState.RUNNING}
_REMEMBERED = 10_000  # arbitrary: runs of which is known whether they are of forks


class Gitea:
    program = GITEA
    version = "0.2.13"
    source = "https://dl.gitea.com/act_runner"

    def __init__(self, rest: Rest, server: Server) -> None:
        self._rest = rest
        self._server = server
        self._forks: OrderedDict[tuple[str, str], bool] = OrderedDict()

    def file(self, platform: str, version: str) -> str:
        return f"{version}/act_runner-{version}-{platform}"

    async def make(self, scope: str, order: RunnerOrder) -> Registration:
        token = (await self._rest.call("POST", f"{scope}/runners/registration-token")).body
        body = {
            "name": order.name,
            "token": str(token["token"]),
            "version": self.version,
            "labels": list(order.labels),
            "ephemeral": True,
        }
        made = await self._rest.call("POST", _REGISTER, body=body)
        return secret.registration(self._rest.base, order, (made.body or {}).get("runner"))

    async def listed(self, scope: str, *, removal: bool = False) -> list[dict[str, Any]]:
        return await numbered(self._rest, f"{scope}/runners", "runners", removal=removal)

    async def told(self, scope: str, listed: Sequence[dict[str, Any]]) -> Sequence[Runner]:
        """Its own word on who is busy is ten seconds old at most, and can be too late for a job that begins."""
        online = [one for one in listed if one.get("status") == "online"]
        working = await self._working(scope) if online else set()
        return [
            Runner(
                str(one["id"]),
                str(one["name"]),
                one in online,
                bool(one.get("busy")) or int(one["id"]) in working,
                tuple(str(label["name"]) for label in one.get("labels") or ()),
            )
            for one in listed
        ]

    async def _working(self, scope: str, *, removal: bool = False) -> set[int]:
        """Numbers of the runners that have a job."""
        query = {"status": "in_progress"}
        return {int(one.get("runner_id") or 0) for one in await self._jobs(f"{scope}/jobs", query, removal=removal)}

    async def _jobs(self, path: str, query: dict[str, str], *, removal: bool = False) -> list[dict[str, Any]]:
        return await numbered(self._rest, path, "jobs", query, removal=removal)

    async def remove(self, scope: str, forge_id: str, *, removal: bool) -> None:
        place = f"{scope}/runners/{forge_id}"
        found = await self._rest.call("GET", place, expect=(404,), removal=removal)
        if found.status == 404:
            return
        if await self._has_job(scope, found.body, removal):
            raise _busy(forge_id)
        if (await self._server.version(removal=removal)).number >= (1, 26):
            stopped = await self._rest.call("PATCH", place, body={"disabled": True}, expect=(404,), removal=removal)
            if stopped.status != 404 and await self._has_job(scope, stopped.body, removal):
                with suppress(ForgeError):  # disabled, it still does the job that it has
                    await self._rest.call("PATCH", place, body={"disabled": False}, expect=(404,), removal=removal)
                raise _busy(forge_id)
        await self._rest.call("DELETE", place, expect=(404,), removal=removal)

    async def _has_job(self, scope: str, told: dict[str, Any], removal: bool) -> bool:
        return bool(told.get("busy")) or int(told["id"]) in await self._working(scope, removal=removal)

    async def queued(self, site: Site, scope: str) -> Sequence[CiJob]:
        listed = await self._jobs(f"{scope}/jobs", {"status": "queued"})
        wanted = [one for one in listed if one.get("labels")]
        return await asyncio.gather(*(self._job(site, _repository_of(one), one) for one in wanted))

    async def job(self, site: Site, path: str, job_id: str) -> CiJob | None:
        told = await self._rest.call("GET", f"{repository(path)}/actions/jobs/{int(job_id)}", expect=(404,))
        return None if told.status == 404 else await self._job(site, path, told.body)

    async def taken(self, site: Site, given: Given) -> CiJob | None:
        """A job keeps the number of a runner that is deleted, and not its name."""
        listed = await self._jobs(f"{repository(given.repository)}/actions/runs/{int(given.run_id)}/jobs", {})
        names = {given.runner_name, given.forge_id} - {""}
        mine = [one for one in listed if {one.get("runner_name"), str(one.get("runner_id") or "")} & names]
        first = min(mine, key=lambda one: int(one["id"]), default=None)
        return None if first is None else await self._job(site, given.repository, first)

    async def rerun(self, site: Site, job: CiJob) -> None:
        run = f"{repository(job.repository)}/actions/runs/{int(job.run_id)}"
        for one in await self._jobs(f"{run}/jobs", {}):
            if str(one["name"]) == job.name and await self._attempt(one) > job.attempt:
                return
            if one["status"] != "completed":
                raise StillRunning(f"run {job.run_id} has not ended", hint="its jobs can be run again when it has")
        again = await self._rest.call("POST", f"{run}/jobs/{int(job.id)}/rerun", expect=_NO_SUCH_ROUTE)
        if again.status in _NO_SUCH_ROUTE:
            raise ForgeRefused("this Gitea cannot be asked to run a job again", hint="1.26 and newer can")

    async def _job(self, site: Site, path: str, told: dict[str, Any]) -> CiJob:
        at = _STATES.get(str(told["status"]), CiJobState.QUEUED)
        return CiJob(
            id=str(told["id"]),
            site=site,
            repository=path,
            state=at,
            labels=tuple(str(label) for label in told.get("labels") or ()),
            created_at=datetime.fromisoformat(str(told["created_at"])),
            run_id=str(told.get("run_id") or ""),
            attempt=await self._attempt(told),
            name=str(told.get("name") or ""),
            url=str(told.get("html_url") or ""),
            ref=str(told.get("head_branch") or ""),
            fork=await self._of_fork(path, str(told.get("run_id") or "")),
            runner_name=str(told.get("runner_name") or ""),
            conclusion=str(told.get("conclusion") or "") if at is CiJobState.DONE else "",
        )

    async def _attempt(self, told: dict[str, Any]) -> int:
        """Before 1.27 a job's attempts are counted when a runner takes it, so that one that waits is one behind."""
        count = int(told.get("run_attempt") or 0)
        waits = _STATES.get(str(told["status"]), CiJobState.QUEUED) is CiJobState.QUEUED
        late = waits and (await self._server.version()).number < (1, 27)
        return max(1, count + late)

    async def _of_fork(self, path: str, run_id: str) -> bool:
        """A job does not say it; its run says which pull request it is of. What is unclear is not trusted."""
        key = (path, run_id)
        if key not in self._forks:
            self._forks[key] = await self._asked_of_fork(path, run_id)
            if len(self._forks) > _REMEMBERED:
                self._forks.popitem(last=False)
        return self._forks[key]

    async def _asked_of_fork(self, path: str, run_id: str) -> bool:
        run = await self._rest.call("GET", f"{repository(path)}/actions/runs/{run_id}", expect=(404,))
        if run.status == 404:
            return True
        found = _PULL.fullmatch(str(run.body.get("path") or ""))
        if found is None:
            return str(run.body.get("event") or "pull_request").startswith("pull_request")
        pull = await self._rest.call("GET", f"{repository(path)}/pulls/{found[1]}", expect=(404,))
        head = (((pull.body or {}).get("head") or {}).get("repo") or {}).get("id")
        base = (((pull.body or {}).get("base") or {}).get("repo") or {}).get("id")
        return head is None or head != base


def _repository_of(told: dict[str, Any]) -> str:
    found = _PLACE.match(str(told.get("url") or ""))
    if found is None:
        raise ForgeRefused(f"job {told.get('id')} does not say whose it is", hint="is its version supported?")
    return found[1]


def _busy(forge_id: str) -> RunnerBusy:
    return RunnerBusy(f"runner {forge_id} has a job", hint="it is left alone until the job has ended")
