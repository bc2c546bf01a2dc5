"""The JobQueue port over a runner scale set's messages.

A message names jobs by numbers that nothing else at GitHub has. It is taken for what it is sure of: that something
happened in a run. The jobs of that run are read from the REST API, with the ids that webhooks and polls have; whatever
the message says of jobs that were read before is taken over without another call.

Source: as for `scale_set`. On github.com jobs are assigned to a set by themselves; Enterprise Server offers them first,
and they are acquired when they are stored.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from provisioner.domain.errors import ForgeError, ForgeRefused, ForgeThrottled, ForgeUnreachable
from provisioner.domain.forge import CiJob, CiJobState, Site
from provisioner.domain.job_queue import Batch
from provisioner.domain.ports import Clock

from ..rest import Answer, Rest
from . import shapes
from .addresses import repository_of
from .events import fork_by
from .scale_set import SETS, VERSION, Bearer, ScaleSets, understood

_TAKEN_S = 30.0  # Source: the published client tries again so often when another has the session
_RUNS = 1000  # arbitrary: of which the jobs are remembered
_ACCEPT = "application/json; api-version=6.0-preview"
_NEWS = frozenset({"JobAvailable", "JobAssigned"})
_KNOWN = {"JobStarted": CiJobState.RUNNING, "JobCompleted": CiJobState.DONE}

_Run = tuple[str, str]  # the repository and the run's number


@dataclass(frozen=True, slots=True)
class Place:
    """A set, and who asks for the jobs of its site."""

    site: Site
    number: int
    api: Rest


class ScaleSetQueue:
    """An open session. `told` is what GitHub said of it."""

    def __init__(self, sets: ScaleSets, place: Place, told: Mapping[str, Any], clock: Clock) -> None:
        self._sets = sets
        self._place = place
        self._clock = clock
        self._told = told
        self._first = True
        self._last = 0
        self._offers: dict[str, list[int]] = {}
        self._runs: OrderedDict[_Run, Sequence[CiJob]] = OrderedDict()

    async def next(self, room: int) -> Batch | None:
        if self._first:
            self._first = False
            return Batch("", (), _waiting(self._told))
        query = {"lastMessageId": str(self._last)} if self._last else {}
        answer = await self._ask("GET", "", query, {"accept": _ACCEPT, "x-scalesetmaxcapacity": str(room)})
        return None if answer.status == 202 or answer.body is None else await self._batch(answer.body)

    async def confirm(self, batch: Batch) -> None:
        if offers := self._offers.pop(batch.id, []):
            await self._acquire(offers)
        await self._ask("DELETE", f"/{batch.id}", {}, {}, expect={404})
        self._last = int(batch.id)

    async def close(self) -> None:
        with suppress(ForgeError):
            path = f"{SETS}/{self._place.number}/sessions/{self._told['sessionId']}"
            await self._sets.call(self._place.site, "DELETE", path, expect={404}, removal=True)

    # Messages

    async def _batch(self, told: Mapping[str, Any]) -> Batch:
        with understood(f"a message of {self._place.site.url}"):
            number, waiting = str(int(told["messageId"])), _waiting(told)
        try:
            runs, offers = _read(told)
        except (AttributeError, KeyError, TypeError, ValueError):  # kept, it would be told for ever, and nothing after
            return Batch(number, (), waiting, unread=True)
        found: list[CiJob] = []
        for run, said in runs.items():
            found += await self._jobs(run, said)
        self._offers = {number: offers}
        return Batch(number, tuple(found), waiting)

    async def _jobs(self, run: _Run, said: Sequence[Mapping[str, Any]]) -> Sequence[CiJob]:
        """Those of a run, read anew unless all that is said is of jobs that were read."""
        moved = [self._moved(run, one) for one in said]
        if all(moved) and not any(one.get("messageType") in _NEWS for one in said):
            return [job for job in moved if job is not None]
        repository, number = run
        try:
            path = f"{repository_of(repository)}/actions/runs/{number}/jobs"
            listed = await self._place.api.pages(path, {"filter": "latest", "per_page": "100"}, key="jobs")
        except ForgeRefused:  # the run was deleted, or its repository is none that we may see
            return []
        fork = fork_by(said[0].get("eventName"))
        ours = [one for one in listed if shapes.ours(one["labels"]) and one["status"] not in ("waiting", "pending")]
        self._runs[run] = [shapes.job(one, self._place.site, repository, fork) for one in ours]
        self._runs.move_to_end(run)
        if len(self._runs) > _RUNS:
            self._runs.popitem(last=False)
        return self._runs[run]

    def _moved(self, run: _Run, said: Mapping[str, Any]) -> CiJob | None:
        """A job that was read before, with what is said of it; None unless it is the only one of that name."""
        named = [job for job in self._runs.get(run, ()) if job.name == said.get("jobDisplayName")]
        state = _KNOWN.get(str(said.get("messageType")))
        if len(named) != 1 or state is None:
            return None
        return replace(named[0], state=state, runner_name=str(said.get("runnerName") or ""))

    # The queue

    async def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        expect: Collection[int] = (),
    ) -> Answer:
        """A token lasts for minutes: one that is refused is renewed once."""
        answer = await self._queue_call(method, path, query, headers, {401, *expect})
        if answer.status == 401:
            path_of = f"{SETS}/{self._place.number}/sessions/{self._told['sessionId']}"
            self._told = _session(await self._sets.call(self._place.site, "PATCH", path_of))
            answer = await self._queue_call(method, path, query, headers, set(expect))
        return answer

    async def _queue_call(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], expect: Collection[int]
    ) -> Answer:
        parts = urlsplit(str(self._told["messageQueueUrl"]))
        base = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
        identity = Bearer(str(self._told["messageQueueAccessToken"]), more=headers)
        rest = Rest(base, identity, self._sets.listening, self._clock)
        return await rest.call(method, path, query={**dict(parse_qsl(parts.query)), **query}, expect=expect)

    async def _acquire(self, numbers: Sequence[int]) -> None:
        """By the queue's own token, at the service."""
        service = await self._sets.service(self._place.site)
        identity = Bearer(str(self._told["messageQueueAccessToken"]))
        rest = Rest(service.base, identity, self._sets.listening, self._clock)
        path = f"{SETS}/{self._place.number}/acquirejobs"
        await rest.call("POST", path, query=VERSION, body=list(numbers))


async def open_queue(sets: ScaleSets, api: Rest, site: Site, name: str, group: str, clock: Clock) -> ScaleSetQueue:
    """Raises: ForgeError; ForgeThrottled while another has the queue."""
    for _ in range(2):
        number = await sets.find_or_make(site, name, group)
        path = f"{SETS}/{number}/sessions"
        answer = await sets.call(site, "POST", path, body={"ownerName": "gpu-runner"}, expect={404, 409})
        if answer.status == 409:
            why = f"another has a session of the scale set {name} at {site.url}, or one that was killed had it"
            raise ForgeThrottled(f"{why}; tried again in {_TAKEN_S:g} s", retry_after_s=_TAKEN_S)
        if answer.status != 404:
            return ScaleSetQueue(sets, Place(site, number, api), _session(answer), clock)
        sets.forget(site, name)
    raise ForgeUnreachable(f"the scale set {name} goes as soon as it is made at {site.url}")


def _session(answer: Answer) -> Mapping[str, Any]:
    with understood("the session"):
        told: Mapping[str, Any] = answer.body
        _ = told["sessionId"], urlsplit(told["messageQueueUrl"]), str(told["messageQueueAccessToken"])
        return told


def _read(told: Mapping[str, Any]) -> tuple[dict[_Run, list[Mapping[str, Any]]], list[int]]:
    """What is said, by run; and the numbers of jobs that are offered."""
    said = json.loads(told.get("body") or "[]") if told["messageType"] == "RunnerScaleSetJobMessages" else []
    runs: dict[_Run, list[Mapping[str, Any]]] = {}
    for one in said if isinstance(said, list) else [said]:
        runs.setdefault((f"{one['ownerName']}/{one['repositoryName']}", str(int(one["workflowRunId"]))), []).append(one)
    offered = (one for mine in runs.values() for one in mine if one.get("messageType") == "JobAvailable")
    return runs, [number for one in offered if (number := int(one.get("runnerRequestId") or 0))]


def _waiting(told: Mapping[str, Any]) -> int | None:
    counts = told.get("statistics") or {}
    if "totalAssignedJobs" not in counts:
        return None
    waiting: int = counts["totalAssignedJobs"] - counts.get("totalRunningJobs", 0)
    return max(0, waiting)
