"""Webhooks that did not arrive, sent again. GitHub sends none twice by itself, and keeps each for three days.

An App has one hook of its own; a repository or an organisation has those that were set up there, found by where they
are sent to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from provisioner.domain.forge import Site

from ..rest import Rest
from .addresses import below
from .forge import GitHub
from .shapes import moment


async def redeliver(forge: GitHub, since: datetime, url: str, sites: Sequence[Site] = ()) -> list[str]:
    """Has sent again what failed since then and has not arrived in the meantime: the ids of those deliveries, the same
    that they will come under. The hooks of `sites` that lead to `url` are looked at, and an App's own without any.

    Raises: ForgeError."""
    if not sites:
        return await _redeliver(forge.account.own, "/app/hook", since)
    again = []
    for site in sites:
        rest = await forge.account.at(site)
        for hook in await rest.pages(f"{below(site)}/hooks", {"per_page": "100"}):
            if hook["config"].get("url") == url:
                again += await _redeliver(rest, f"{below(site)}/hooks/{hook['id']}", since)
    return again


async def _redeliver(rest: Rest, hook: str, since: datetime) -> list[str]:
    found = await rest.pages(f"{hook}/deliveries", {"per_page": "100"}, until=lambda one: _at(one) < since)
    missed = list(_missed([one for one in found if _at(one) >= since]))
    for one in missed:
        await rest.call("POST", f"{hook}/deliveries/{one['id']}/attempts")
    return [one["guid"] for one in missed]


def _missed(deliveries: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The newest try of each that no try of it arrived, oldest first."""
    arrived = {one["guid"] for one in deliveries if 200 <= one["status_code"] < 300}
    newest: dict[str, Mapping[str, Any]] = {}
    for one in sorted(deliveries, key=_at):
        newest[one["guid"]] = one
    return (one for guid, one in newest.items() if guid not in arrived)


def _at(delivery: Mapping[str, Any]) -> datetime:
    return moment(delivery["delivered_at"])
