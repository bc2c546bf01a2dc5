"""Jobs of a GitLab's pipelines: which wait for a runner of ours, one by its number, and one again.

Only jobs with tags are ours to serve: a runner of ours takes no others. A retried job is another job, with a number of
its own, so that every job here has one attempt. Source: docs.gitlab.com api/jobs, api/merge_requests, 2026.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from provisioner.domain.errors import ForgeRefused, StillRunning
from provisioner.domain.forge import CiJob, CiJobState, Given, Site

from ..rest import Rest
from .scope import Scopes, project

_RUNNING = {"running", "canceling"}
_ENDED = {"success", "failed", "canceled", "skipped"}
_MERGE_REQUEST = re.compile(r"refs/merge-requests/(\d+)/(?:head|merge|train)")
_REMEMBERED = 10_000  # arbitrary: merge requests of which is known whether they come from a fork


def state(status: str) -> CiJobState:
    """Source: docs.gitlab.com, ci/jobs, the status of a job, 2026."""
    if status in _ENDED:
        return CiJobState.DONE
    return CiJobState.RUNNING if status in _RUNNING else CiJobState.QUEUED


class Jobs:
    def __init__(self, rest: Rest, scopes: Scopes) -> None:
        self._rest = rest
        self._scopes = scopes
        self._forks: OrderedDict[tuple[str, str], bool] = OrderedDict()

    async def queued(self, site: Site) -> Sequence[CiJob]:
        """A group's or an instance's projects are asked one by one: GitLab has no listing over them."""
        projects = await self._scopes.projects(await self._scopes.of(site))
        found = await asyncio.gather(*(self._waiting(site, number, path) for number, path in projects))
        return [job for jobs in found for job in jobs]

    async def _waiting(self, site: Site, number: int, path: str) -> list[CiJob]:
        """Keyset pages: a job that is taken meanwhile moves no other off the page that is to come."""
        query = {"scope[]": "pending", "pagination": "keyset", "order_by": "id", "sort": "desc", "per_page": "100"}
        listed = await self._rest.pages(f"/projects/{number}/jobs", query)
        return [await self._told(site, path, one) for one in listed if one.get("tag_list")]

    async def job(self, site: Site, repository: str, job_id: str) -> CiJob | None:
        told = await self._rest.call("GET", f"{project(repository)}/jobs/{int(job_id)}", expect=(404,))
        return None if told.status == 404 else await self._told(site, repository, told.body)

    async def taken(self, site: Site, given: Given) -> CiJob | None:
        """A job forgets a runner that is deleted; its name is in the pipeline once, but for those that were retried."""
        listed = await self._of_run(given.repository, given.run_id)
        mine = [one for one in listed if (one.get("runner") or {}).get("description") == given.runner_name]
        mine = mine or [one for one in listed if one["name"] == given.job_name]
        last = max(mine, key=lambda one: int(one["id"]), default=None)
        return None if last is None else await self._told(site, given.repository, last)

    async def rerun(self, site: Site, job: CiJob) -> None:
        place = f"{project(job.repository)}/jobs/{int(job.id)}"
        again = await self._rest.call("POST", f"{place}/retry", expect=(403,))
        if again.status != 403:
            return
        now = await self.job(site, job.repository, job.id)
        if now is not None and now.state is not CiJobState.DONE:
            raise StillRunning(f"job {job.id} has not ended", hint="it can be run again when it has")
        if not await self._was_retried(job):
            raise ForgeRefused(
                f"GitLab does not run job {job.id} again", hint="may the token run pipelines, or is the job archived?"
            )

    async def _was_retried(self, job: CiJob) -> bool:
        listed = await self._of_run(job.repository, job.run_id)
        return any(one["name"] == job.name and int(one["id"]) > int(job.id) for one in listed)

    async def _of_run(self, repository: str, run_id: str) -> list[dict[str, Any]]:
        query = {"include_retried": "true", "per_page": "100"}
        return await self._rest.pages(f"{project(repository)}/pipelines/{run_id}/jobs", query)

    async def _told(self, site: Site, repository: str, told: dict[str, Any]) -> CiJob:
        pipeline, status = told.get("pipeline") or {}, str(told["status"])
        return CiJob(
            id=str(told["id"]),
            site=site,
            repository=repository,
            state=state(status),
            labels=tuple(str(tag) for tag in told.get("tag_list") or ()),
            created_at=datetime.fromisoformat(str(told["created_at"])),
            run_id=str(pipeline.get("id") or ""),
            name=str(told.get("name") or ""),
            url=str(told.get("web_url") or ""),
            ref=str(told.get("ref") or ""),
            fork=await self._of_fork(repository, pipeline, str(told.get("ref") or "")),
            runner_name=str((told.get("runner") or {}).get("description") or ""),
            conclusion=status if state(status) is CiJobState.DONE else "",
        )

    async def _of_fork(self, repository: str, pipeline: dict[str, Any], ref: str) -> bool:
        """Whether its pipeline belongs to a merge request from a fork, run here. What is unclear is not trusted."""
        found = _MERGE_REQUEST.fullmatch(str(pipeline.get("ref") or ref))
        if found is None:
            return pipeline.get("source") in ("merge_request_event", "external_pull_request_event")
        key = (repository, found[1])
        if key not in self._forks:
            told = await self._rest.call("GET", f"{project(repository)}/merge_requests/{found[1]}", expect=(404,))
            source, target = (told.body or {}).get("source_project_id"), (told.body or {}).get("target_project_id")
            self._forks[key] = source is None or source != target
            if len(self._forks) > _REMEMBERED:
                self._forks.popitem(last=False)
        return self._forks[key]
