"""Runners of a GitLab: one record an attempt, its description our name, its token good for it alone.

GitLab deletes a runner that has a job without a word, and fails the job. So it is paused first, and deleted only once
nothing runs on it: a paused runner is given nothing. Source: docs.gitlab.com api/runners, api/users, 2026.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from provisioner.domain.errors import ForgeError, ForgeRefused, ForgeUnreachable, RunnerBusy
from provisioner.domain.forge import PREFIX, Registration, Runner, RunnerOrder, Site
from provisioner.domain.ports import Clock

from ..records import Keeper, Records
from ..rest import Rest
from .scope import Scope, Scopes

VISIBILITY_S = 10.0  # arbitrary: replicas of its database follow within moments
_SHORTEST_JOB_S = 600  # Source: `maximum_timeout` is at least ten minutes
_REMEMBERED = 10_000  # arbitrary: runners whose tags are known; they never change


class Runners:
    def __init__(self, rest: Rest, scopes: Scopes, clock: Clock) -> None:
        self._rest = rest
        self._scopes = scopes
        self._records = Records(clock, VISIBILITY_S)
        self._tags: OrderedDict[str, tuple[str, ...]] = OrderedDict()

    async def register(self, site: Site, order: RunnerOrder) -> Registration:
        if not order.labels:
            raise ForgeRefused("a runner without tags would take every job that has none", hint="give it labels")
        if wrong := [label for label in order.labels if "," in label or label != label.strip()]:
            raise ForgeRefused(f"GitLab has no tag {wrong[0][:80]!r}", hint="a tag has no comma and no space around it")
        scope = await self._scopes.of(site)
        return await self._records.make(order.name, self._keeper(scope, False), lambda: self._make(scope, order))

    def _keeper(self, scope: Scope, removal: bool) -> Keeper:
        return Keeper(
            find=lambda name: self._named(scope, name, removal), remove=lambda one: self._remove(one, removal=removal)
        )

    async def _make(self, scope: Scope, order: RunnerOrder) -> Registration:
        made = (await self._rest.call("POST", "/user/runners", body=_wanted(scope, order))).body
        try:
            given = Registration(str(made["id"]), order.name, str(made["token"]))
        except (KeyError, TypeError) as error:
            raise ForgeUnreachable("a runner was made, and its token was not given") from error
        self._remember(given.forge_id, order.labels)
        return given

    async def _named(self, scope: Scope, name: str, removal: bool) -> list[str]:
        return [str(one["id"]) for one in await self._listed(scope, removal) if one["description"] == name]

    async def _listed(self, scope: Scope, removal: bool = False) -> list[dict[str, Any]]:
        query = {"type": scope.kind, "per_page": "100"}
        listed: list[dict[str, Any]] = await self._rest.pages(scope.runners, query, removal=removal)
        return [one for one in listed if str(one.get("description") or "").startswith(PREFIX)]

    async def runners(self, site: Site) -> Sequence[Runner]:
        listed = await self._listed(await self._scopes.of(site))
        found = await asyncio.gather(*(self._told(one) for one in listed))
        return [runner for runner in found if runner is not None]

    async def _told(self, listed: dict[str, Any]) -> Runner | None:
        """None: it went in the meantime."""
        forge_id = str(listed["id"])
        if (tags := await self._tags_of(forge_id)) is None:
            return None
        online = listed.get("status") == "online"
        busy = online and await self._has_job(listed, removal=False)
        return Runner(forge_id, str(listed["description"]), online, busy, tags)

    async def _tags_of(self, forge_id: str) -> tuple[str, ...] | None:
        """Listings leave them out."""
        if forge_id not in self._tags:
            told = await self._rest.call("GET", f"/runners/{forge_id}", expect=(404,))
            if told.status == 404:
                return None
            self._remember(forge_id, tuple(str(tag) for tag in told.body["tag_list"]))
        return self._tags[forge_id]

    def _remember(self, forge_id: str, tags: tuple[str, ...]) -> None:
        self._tags[forge_id] = tags
        if len(self._tags) > _REMEMBERED:
            self._tags.popitem(last=False)

    async def remove(self, site: Site, forge_id: str, name: str) -> None:
        scope = await self._scopes.of(site, removal=True)
        await self._records.drop(name, forge_id, self._keeper(scope, True))

    async def _remove(self, forge_id: str, *, removal: bool) -> None:
        """Raises: RunnerBusy, and then it goes on as before; ForgeError, and then it may be paused."""
        place = f"/runners/{forge_id}"
        found = await self._rest.call("GET", place, expect=(404,), removal=removal)
        if found.status == 404:
            return
        if await self._has_job(found.body, removal=removal):
            raise _busy(forge_id)
        paused = await self._rest.call("PUT", place, body={"paused": True}, expect=(404,), removal=removal)
        if paused.status == 404:
            return
        if await self._has_job(paused.body, removal=removal):
            with suppress(ForgeError):  # paused, it still does the job that it has
                await self._rest.call("PUT", place, body={"paused": False}, expect=(404,), removal=removal)
            raise _busy(forge_id)
        await self._rest.call("DELETE", place, expect=(404,), removal=removal)
        self._tags.pop(forge_id, None)

    async def _has_job(self, told: dict[str, Any], *, removal: bool) -> bool:
        """What its record says; versions that do not say it have a listing of jobs, of those that the token sees."""
        if doing := told.get("job_execution_status"):
            return bool(doing == "active")
        for status in ("running", "canceling"):
            query = {"status": status, "per_page": "1"}
            place = f"/runners/{told['id']}/jobs"
            listed = await self._rest.call("GET", place, query=query, expect=(400, 404), removal=removal)
            if listed.status == 200 and listed.body:
                return True
        return False

    async def close(self) -> None:
        await self._records.close()


def _wanted(scope: Scope, order: RunnerOrder) -> dict[str, Any]:
    wanted: dict[str, Any] = {
        "runner_type": scope.kind,
        **scope.owner,
        "description": order.name,
        "tag_list": list(order.labels),
        "run_untagged": False,
        "locked": scope.kind == "project_type",
    }
    if order.longest_job_s is not None:
        wanted["maximum_timeout"] = max(_SHORTEST_JOB_S, int(order.longest_job_s))
    return wanted


def _busy(forge_id: str) -> RunnerBusy:
    return RunnerBusy(f"runner {forge_id} has a job", hint="it is left alone until the job has ended")
