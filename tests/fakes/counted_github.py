"""A GitHub that makes runners and does nothing else, in virtual time: it counts as GitHub publishes, half way between a
request and its answer, and shows what is registered. Under the real client, whose `Line` it stands behind.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from provisioner.domain.forge import Site
from provisioner.domain.ports import Clock
from provisioner.forges.github.account import endpoint
from provisioner.forges.github.credentials import Token
from provisioner.forges.github.forge import AT_ONCE, GitHub
from provisioner.forges.line import Line, Raw

from .github.limits import REGISTRATION, Limits

_PAGE = 100
_PROGRAM = {
    "os": "linux",
    "architecture": "x64",
    "filename": "actions-runner-linux-x64-2.330.0.tar.gz",
    "download_url": "https://github.com/actions/runner/v2.330.0/actions-runner-linux-x64-2.330.0.tar.gz",
    "sha256_checksum": "ab" * 32,
}


class CountedGitHub(Line):
    """`made_s` is when it counted each registration, by its runner's name; `refused` how many calls it sent away."""

    def __init__(self, clock: Clock, latency_s: float) -> None:
        super().__init__(at_once=AT_ONCE)
        self.latency_s = latency_s
        self.made_s: dict[str, float] = {}
        self.listed = self.refused = 0
        self.limits = Limits(clock)
        self._clock = clock
        self._ids = itertools.count(1)
        self._here = 0

    def opened(self) -> GitHub:
        return GitHub("https://github.com", Token("ghp_t"), self._clock, line=self)

    async def exchange(self, method: str, url: str, headers: Mapping[str, str], query: Any, body: Any) -> Raw:
        await asyncio.sleep(self.latency_s / 2)
        self._here += 1
        try:
            raw = self._answered(method, url, int((query or {}).get("page", 1)), body)
            await asyncio.sleep(self.latency_s / 2)
        finally:
            self._here -= 1
        return raw

    def _answered(self, method: str, url: str, page: int, body: Any) -> Raw:
        write, path = method != "GET", urlsplit(url)
        resource = REGISTRATION if write else "core"
        called, _ = endpoint(method, path.path)
        no = self.limits.weigh("us", called, 5 if write else 1, resource, self._here, comment=False)
        if no is not None:
            self.refused += 1
            return Raw(no.status, no.headers, json.dumps({"message": no.message}).encode())
        headers = self.limits.headers("us", resource)
        if write:
            self.made_s[body["name"]] = self._clock.monotonic()
            made = {"runner": {"id": next(self._ids)}, "encoded_jit_config": f"secret of {body['name']}"}
            return Raw(201, headers, json.dumps(made).encode())
        if path.path.endswith("/downloads"):
            return Raw(200, headers, json.dumps([_PROGRAM]).encode())
        if "/deprecations/" in path.path:
            return Raw(404, headers, b"{}")
        self.listed += 1
        page = int(path.query.rpartition("page=")[2] or page)
        names = list(self.made_s)
        shown = [_shown(number, name) for number, name in enumerate(names)][(page - 1) * _PAGE : page * _PAGE]
        more = f"{url.partition('?')[0]}?page={page + 1}" if page * _PAGE < len(names) else ""
        return Raw(200, headers, json.dumps({"total_count": len(names), "runners": shown}).encode(), more)


class CountedForges:
    """The Forges port over it."""

    def __init__(self, forge: GitHub) -> None:
        self._forge = forge

    def of(self, site: Site) -> GitHub:
        return self._forge

    def preinstalled(self, site: Site) -> tuple[str, ...]:
        return ()


def _shown(number: int, name: str) -> dict[str, Any]:
    return {"id": number + 1, "name": name, "status": "online", "busy": True, "labels": [{"name": "gpu"}]}
