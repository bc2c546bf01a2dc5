"""Forgejo's own ways, 15 and newer.

It makes runners by its API, without labels: those come with the runner's program. It tells of the jobs that wait or
run, all at once; of those that have ended from 16 on, by their run; it runs jobs again from 17 on. It does not say
which runner has a job, nor can a runner be stopped before it is deleted: between the look and the deletion a job may
still come. Source: Forgejo routers/api/v1/shared/runners.go, modules/structs, tests/integration, 2026.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from provisioner.domain.errors import ForgeRefused, RunnerBusy, StillRunning
from provisioner.domain.forge import CiJob, CiJobState, Given, Registration, Runner, RunnerOrder, Site

from ..rest import Rest
from . import secret
from .program import FORGEJO
from .server import API, Server, numbered, repository

_NO_SUCH_ROUTE = (404, 405)
_WAITING = ("waiting", "blocked")
_LOOKED_THROUGH = "20"  # arbitrary: runs, each a call
_REMEMBERED = 10_000  # arbitrary: runs, repositories and labels that do not change


class Forgejo:
    program = FORGEJO
    version = "12.10.2"
    source = "https://code.forgejo.org/forgejo/runner/releases/download"

    def __init__(self, rest: Rest, server: Server) -> None:
        self._rest = rest
        self._server = server
        self._labels: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._runs: OrderedDict[tuple[str, str], dict[str, Any]] = OrderedDict()
        self._run_of: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._paths: OrderedDict[str, str] = OrderedDict()

    def file(self, platform: str, version: str) -> str:
        return f"v{version}/forgejo-runner-{version}-{platform}"

    async def make(self, scope: str, order: RunnerOrder) -> Registration:
        body = {"name": order.name, "description": "", "ephemeral": True}
        made = await self._rest.call("POST", f"{scope}/runners", body=body, expect=_NO_SUCH_ROUTE)
        if made.status in _NO_SUCH_ROUTE:
            raise ForgeRefused("this Forgejo has no API to make a runner, or not there", hint="15 and newer have it")
        given = secret.registration(self._rest.base, order, made.body)
        _remember(self._labels, given.forge_id, order.labels)
        return given

    async def listed(self, scope: str, *, removal: bool = False) -> list[dict[str, Any]]:
        return await numbered(self._rest, f"{scope}/runners", "", removal=removal)

    async def told(self, scope: str, listed: Sequence[dict[str, Any]]) -> Sequence[Runner]:
        """Until its program has come, a runner has the labels that were asked for when it was made here."""
        return [
            Runner(
                str(one["id"]),
                str(one["name"]),
                one.get("status") != "offline",
                one.get("status") == "active",
                tuple(str(label) for label in one.get("labels") or ()) or self._labels.get(str(one["id"]), ()),
            )
            for one in listed
        ]

    async def remove(self, scope: str, forge_id: str, *, removal: bool) -> None:
        place = f"{scope}/runners/{forge_id}"
        found = await self._rest.call("GET", place, expect=(404,), removal=removal)
        if found.status == 404:
            return
        if found.body.get("status") == "active":
            raise RunnerBusy(f"runner {forge_id} has a job", hint="it is left alone until the job has ended")
        await self._rest.call("DELETE", place, expect=(404,), removal=removal)

    async def queued(self, site: Site, scope: str) -> Sequence[CiJob]:
        listed = await self._live(scope)
        wanted = [one for one in listed if one["status"] == "waiting" and one.get("runs_on")]
        return await asyncio.gather(*(self._job(site, one) for one in wanted))

    async def _live(self, scope: str) -> list[dict[str, Any]]:
        """Those that wait and those that run; null when there are none."""
        return list((await self._rest.call("GET", f"{scope}/runners/jobs")).body or ())

    async def job(self, site: Site, path: str, job_id: str) -> CiJob | None:
        """It has no listing of those that have ended, but by their runs: the one that the job was seen in before, or
        else the newest few. What is in none of them is there no more."""
        for one in await self._live(f"{repository(path)}/actions"):
            if str(one["id"]) == job_id:
                return await self._job(site, one)
        known = self._run_of.get((path, job_id))
        for run_id in [known] if known else await self._newest(path):
            for one in await self._of_run(path, run_id) or ():
                if str(one["id"]) == job_id:
                    return await self._job(site, one)
        return None

    async def _newest(self, path: str) -> list[str]:
        told = await self._rest.call("GET", f"{repository(path)}/actions/runs", query={"limit": _LOOKED_THROUGH})
        return [str(one["id"]) for one in told.body["workflow_runs"]]

    async def _of_run(self, path: str, run_id: str) -> list[dict[str, Any]] | None:
        """None: before version 16 it cannot be asked."""
        place = f"{repository(path)}/actions/runs/{run_id}/jobs"
        told = await self._rest.call("GET", place, expect=_NO_SUCH_ROUTE)
        return None if told.status in _NO_SUCH_ROUTE else list(told.body or ())

    async def taken(self, site: Site, given: Given) -> CiJob | None:
        """It does not say which runner a job was given, and its programs call a job by its key, which is its name
        unless it has another: of a run with more jobs than one it may not be clear."""
        jobs = await self._of_run(given.repository, given.run_id) or []
        mine = [one for one in jobs if str(one["name"]) == given.job_name] or jobs
        return await self._job(site, mine[0]) if len(mine) == 1 else None

    async def rerun(self, site: Site, job: CiJob) -> None:
        jobs = await self._of_run(job.repository, job.run_id)
        for one in jobs or ():
            if str(one["name"]) == job.name and int(one.get("attempt") or 1) > job.attempt:
                return
            if _state(one) is not CiJobState.DONE:
                raise StillRunning(f"run {job.run_id} has not ended", hint="its jobs can be run again when it has")
        place = f"{repository(job.repository)}/actions/jobs/{int(job.id)}/rerun"
        again = await self._rest.call("POST", place, expect=_NO_SUCH_ROUTE)
        if again.status in _NO_SUCH_ROUTE:
            raise ForgeRefused("this Forgejo cannot be asked to run a job again", hint="17 and newer can")

    async def _job(self, site: Site, told: dict[str, Any]) -> CiJob:
        run_id, at = str(told["run_id"]), _state(told)
        path = await self._path_of(str(told["repo_id"]))
        run = await self._run(path, run_id)
        _remember(self._run_of, (path, str(told["id"])), run_id)
        return CiJob(
            id=str(told["id"]),
            site=site,
            repository=path,
            state=at,
            labels=tuple(str(label) for label in told.get("runs_on") or ()),
            created_at=datetime.fromisoformat(str(run["created"])),
            run_id=run_id,
            attempt=max(1, int(told.get("attempt") or 1)),
            name=str(told.get("name") or ""),
            url=str(told.get("html_url") or run.get("html_url") or ""),
            ref=str(run.get("prettyref") or ""),
            fork=bool(run.get("is_fork_pull_request", True)),
            conclusion=str(told["status"]) if at is CiJobState.DONE else "",
        )

    async def _path_of(self, number: str) -> str:
        if number not in self._paths:
            told = await self._rest.call("GET", f"{API}/repositories/{number}")
            _remember(self._paths, number, str(told.body["full_name"]))
        return self._paths[number]

    async def _run(self, path: str, run_id: str) -> dict[str, Any]:
        """What of it does not change is kept."""
        if (path, run_id) not in self._runs:
            told = await self._rest.call("GET", f"{repository(path)}/actions/runs/{run_id}")
            _remember(self._runs, (path, run_id), told.body)
        return self._runs[(path, run_id)]


def _state(told: dict[str, Any]) -> CiJobState:
    if told["status"] in _WAITING:
        return CiJobState.QUEUED
    return CiJobState.RUNNING if told["status"] == "running" else CiJobState.DONE


def _remember(known: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    known[key] = value
    if len(known) > _REMEMBERED:
        known.popitem(last=False)
