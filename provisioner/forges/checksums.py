"""The sha256 of a release's file, as its publisher or a mirror has it beside the file."""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

from provisioner.domain.errors import ForgeRefused, ForgeUnreachable

from .line import Line

_HOPS = 4
_LINE = re.compile(r"([0-9a-f]{64})(?:\s+[*]?(\S+))?\s*", re.I)
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def platform(system: str, machine: str) -> str:
    """How publishers of Go programs name it: linux-amd64. Raises: ForgeRefused."""
    if system != "linux" or machine not in MACHINES:
        raise ForgeRefused(f"no runner program for {system} on {machine}", hint="linux on x86_64 or aarch64")
    return f"{system}-{MACHINES[machine]}"


async def published(line: Line, url: str, name: str) -> str:
    """What the list at `url` says of the file `name`, in whatever folder the list has it. Raises: ForgeError."""
    for text in (await _text(line, url)).splitlines():
        found = _LINE.fullmatch(text)
        if found and (found[2] or name).rpartition("/")[2] == name:
            return found[1].lower()
    raise ForgeRefused(f"{url} has no sha256 of {name}", hint="look at the version and at the mirror's address")


async def _text(line: Line, url: str) -> str:
    """No credential goes along, so it may lead elsewhere; never from https to less."""
    for _ in range(_HOPS):
        raw = await line.send("GET", url, {})
        if 300 <= raw.status < 400 and (to := urljoin(url, raw.headers.get("location", ""))) != url:
            if urlsplit(url).scheme == "https" != urlsplit(to).scheme:
                break
            url = to
            continue
        if raw.status == 200:
            return raw.content.decode(errors="replace")
        kind = ForgeUnreachable if raw.status >= 500 or raw.status == 429 else ForgeRefused
        raise kind(f"GET {url}: {raw.status}", hint="look at the version and at the mirror's address")
    raise ForgeRefused(f"GET {url}: it leads nowhere", hint="look at the mirror's address")
