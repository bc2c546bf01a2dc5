"""Which jobs of a site wait for a runner of its owner's own.

GitHub has no such question. Runs that have not ended are listed, repository by repository, and their jobs looked at:
those of a run that has begun too, or that waits for a person, since one job may wait for a runner beside another that
does not. What has not changed since the last look costs nothing, because the listings are asked for with what is known
of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from provisioner.domain.forge import CiJob, Site

from ..rest import Rest
from . import shapes
from .addresses import below, repository_of

# A run has one status for all its jobs: that of a job that waits for an approval, or for its concurrency group, goes
# before that of one that is queued. Source: kedacore/keda issue 5788 and actions-runner-controller issue 2723, 2026,
# for `waiting`; for `pending` nobody says, and it is asked for to be safe. `requested` is a run of which nothing is
# queued yet (GitHub, "About status checks", 2026): with a fifth listing, a pass over 200 repositories would take 67 s
# at the pace of `account.DIALECT`. In the order that runs go through them, so that one that moves on is met again.
_UNFINISHED = ("pending", "waiting", "queued", "in_progress")
_MOST_FOUND = (
    1000  # Source: GitHub REST, "List workflow runs for a repository", 2026: of a search, 1,000 can be reached
)


async def waiting(rest: Rest, site: Site) -> list[CiJob]:
    """Raises: ForgeError, and then nothing is known."""
    if "/" in site.path:
        repository_of(site.path)
        return await _in_repository(rest, site, site.path)
    found = await rest.pages(f"{below(site)}/repos", {"per_page": "100"})
    names = [told["full_name"] for told in found if not told.get("archived") and not told.get("disabled")]
    return [job for jobs in await _all(_in_repository(rest, site, name) for name in names) for job in jobs]


async def _in_repository(rest: Rest, site: Site, name: str) -> list[CiJob]:
    runs: dict[Any, Any] = {}
    for status in _UNFINISHED:
        for run in await _runs(rest, name, status):
            runs[run["id"]] = run
    return [job for jobs in await _all(_of_run(rest, site, name, run) for run in runs.values()) for job in jobs]


async def _runs(rest: Rest, name: str, status: str) -> list[Any]:
    """Newest first. Beyond what one search reaches, the next begins where this one ended."""
    query = {"status": status, "per_page": "100"}
    runs: dict[Any, Any] = {}
    while True:
        found = await rest.pages(f"{repository_of(name)}/actions/runs", query, key="workflow_runs", most=_MOST_FOUND)
        fresh = [run for run in found if run["id"] not in runs]
        runs |= {run["id"]: run for run in fresh}
        if len(found) < _MOST_FOUND or not fresh:
            return list(runs.values())
        query = {**query, "created": f"<={found[-1]['created_at']}"}


async def _of_run(rest: Rest, site: Site, name: str, run: Mapping[str, Any]) -> list[CiJob]:
    query = {"filter": "latest", "per_page": "100"}
    found = await rest.pages(f"{repository_of(name)}/actions/runs/{run['id']}/jobs", query, key="jobs")
    fork = shapes.from_fork(run)
    waits = [told for told in found if told["status"] == "queued" and shapes.ours(told["labels"])]
    return [shapes.job(told, site, name, fork) for told in waits]


async def _all(asked: Any) -> list[list[CiJob]]:
    """All of them, or the first error, and then the others are not asked for."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in asked]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
