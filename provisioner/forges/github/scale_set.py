"""GitHub's runner scale sets: what they are, and who their runners are. `scale_set_queue` listens to one.

They are no part of the REST API. A registration token of the site opens its Actions service, whose address and token
come with it; there a set is found or made by its name, and gives JIT configurations to runners of its own. Records of
those show in the REST API, by which they are listed and removed as any others.

Source: the client that GitHub publishes (github.com/actions/scaleset, public preview, 2026); it is described nowhere.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from provisioner.domain.errors import ForgeRefused, ForgeUnauthorized, ForgeUnreachable
from provisioner.domain.forge import Site
from provisioner.domain.ports import Clock

from ..line import Line
from ..rest import Answer, Rest
from .account import REGISTRATION, Account
from .addresses import below

SETS = "/_apis/runtime/runnerscalesets"
VERSION = {"api-version": "6.0-preview"}
_AGENT = "gpu-runner"
_ASK_AGAIN_S = (1.0, 3.0, 6.0)  # arbitrary: a registration token is not known everywhere at once
_TOKEN_S = 600.0  # arbitrary: of a token that does not say when it ends
_EARLY_S = 60.0
_DEFAULT_GROUP = 1
_LONGEST_S = 75.0  # a queue that has nothing answers after 50 s
_LISTENERS = 1000  # arbitrary: each waits there nearly all the time


@contextmanager
def understood(what: str) -> Iterator[None]:
    """An answer that is not as the published client has it is our error: this API may change."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ForgeUnreachable(f"{what} is not understood: {error!r}", hint="has GitHub changed this API?") from error


class Bearer:
    """The identity of a token, which its user renews. `more` headers go with it."""

    def __init__(self, token: str, kind: str = "Bearer", more: Mapping[str, str] | None = None) -> None:
        self._headers = {"user-agent": _AGENT, "authorization": f"{kind} {token}", **(more or {})}

    async def headers(self) -> Mapping[str, str]:
        return self._headers

    def refused(self) -> None:
        """Whoever asked is told."""


@dataclass
class _Service:
    """The Actions service of a site, as its administrator, until `until_s`."""

    rest: Rest
    until_s: float


class ScaleSets:
    """Those of one GitHub. Sets are known by their site and name. `listening`: the line that queues are heard on."""

    def __init__(self, account: Account, clock: Clock, line: Line) -> None:
        self._account = account
        self._clock = clock
        self._line = line
        self.listening = Line(_LONGEST_S, _LISTENERS)
        self._services: dict[str, _Service] = {}
        self._ids: dict[tuple[str, str], int] = {}
        self._turn = asyncio.Lock()

    async def call(self, site: Site, method: str, path: str, **more: Any) -> Answer:
        """As the site's administrator, with `more` of what `Rest.call` takes. Raises: ForgeError."""
        query = {**VERSION, **more.pop("query", {})}
        expect = {*more.pop("expect", ())}
        answer = await (await self.service(site)).call(method, path, query=query, expect={401, *expect}, **more)
        if answer.status == 401:
            self._services.pop(site.path, None)
            answer = await (await self.service(site)).call(method, path, query=query, expect=expect, **more)
        return answer

    async def find_or_make(self, site: Site, name: str, group: str) -> int:
        """The set's number. Raises: ForgeError."""
        async with self._turn:
            if (site.path, name) not in self._ids:
                with understood(f"the scale set {name}"):
                    self._ids[site.path, name] = await self._found_or_made(site, name, group)
            return self._ids[site.path, name]

    def forget(self, site: Site, name: str) -> None:
        """GitHub does not know it any more: it removes a set that nobody has used for a week."""
        self._ids.pop((site.path, name), None)

    async def configure(self, site: Site, labels: Sequence[str], group: str, runner: str) -> tuple[str, str] | None:
        """The id of a new runner of the set and its JIT configuration; None: there is a runner of that name.

        Raises: ForgeError."""
        if len(labels) != 1:
            raise ForgeRefused("a scale set has one label, which is its name", hint="name one label")
        body = {"name": runner, "workFolder": "_work"}
        for _ in range(2):
            number = await self.find_or_make(site, labels[0], group)
            answer = await self.call(site, "POST", f"{SETS}/{number}/generatejitconfig", body=body, expect={404, 409})
            if answer.status == 409:
                return None
            if answer.status != 404:
                with understood(f"the new runner of {labels[0]}"):
                    return str(answer.body["runner"]["id"]), str(answer.body["encodedJITConfig"])
            self.forget(site, labels[0])
        raise ForgeUnreachable(f"the scale set {labels[0]} goes as soon as it is made at {site.url}")

    async def close(self) -> None:
        await self.listening.close()

    # The set itself

    async def _found_or_made(self, site: Site, name: str, group: str) -> int:
        number = await self._group(site, group)
        wanted = {"runnerGroupId": str(number), "name": name}
        body = {
            "name": name,
            "runnerGroupId": number,
            "labels": [{"name": name, "type": "System"}],
            "RunnerSetting": {"ephemeral": True, "disableUpdate": True},
        }
        for _ in range(2):
            listed = await self.call(site, "GET", SETS, query=wanted)
            if (found := next((one for one in listed.body["value"] if one["name"] == name), None)) is not None:
                return int(found["id"])
            made = await self.call(site, "POST", SETS, body=body, expect={409})
            if made.status != 409:
                return int(made.body["id"])
        raise ForgeRefused(
            f"the name {name} is taken at {site.url}, by a scale set of another group", hint="name another label"
        )

    async def _group(self, site: Site, name: str) -> int:
        if not name:
            return _DEFAULT_GROUP
        listed = await self.call(site, "GET", "/_apis/runtime/runnergroups/", query={"groupName": name})
        found = [int(one["id"]) for one in listed.body["value"] if one["name"] == name]
        if not found:
            raise ForgeRefused(f"{site.url} has no runner group {name!r}", hint="make it there, or name another")
        return found[0]

    # The way in

    async def service(self, site: Site) -> Rest:
        """Raises: ForgeError."""
        held = self._services.get(site.path)
        if held is None or self._clock.monotonic() >= held.until_s:
            with understood(f"the Actions service of {site.url}"):
                held = self._services[site.path] = await self._connected(site)
        return held.rest

    async def _connected(self, site: Site) -> _Service:
        rest = await self._account.at(site)
        token = await rest.call("POST", f"{below(site)}/actions/runners/registration-token", resource=REGISTRATION)
        door = Rest(rest.base, Bearer(token.body["token"], "RemoteAuth"), self._line, self._clock)
        body = {"url": site.url, "runner_event": "register"}
        for wait_s in (0.0, *_ASK_AGAIN_S):
            if wait_s:
                await self._clock.sleep(wait_s)
            answer = await door.call("POST", "/actions/runner-registration", body=body, expect={401, 403})
            if answer.status < 300:
                admin = answer.body["token"]
                service = Rest(answer.body["url"].rstrip("/"), Bearer(admin), self._line, self._clock)
                return _Service(service, self._clock.monotonic() + self._lasts_s(admin))
        hint = "its credential has to be able to register runners there"
        raise ForgeUnauthorized(f"{site.url} does not open its Actions service: {answer.status}", hint=hint)

    def _lasts_s(self, token: str) -> float:
        """By what a JSON Web Token says of itself."""
        try:
            claims = token.split(".")[1]
            told = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
            left_s = float(told["exp"]) - self._clock.now().timestamp()
        except (IndexError, KeyError, TypeError, ValueError):
            left_s = _TOKEN_S
        return max(left_s - _EARLY_S, left_s / 2)
