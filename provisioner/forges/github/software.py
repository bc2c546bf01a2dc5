"""The runner program that GitHub offers, and when it will refuse it."""

from __future__ import annotations

import re
from datetime import datetime

from provisioner.domain.errors import ForgeRefused
from provisioner.domain.forge import Software

from ..rest import Rest
from .shapes import moment

_MACHINES = {"x86_64": "x64", "aarch64": "arm64"}


async def find_software(rest: Rest, site: str, system: str, machine: str) -> Software:
    """`site` is its path in the API. Raises: ForgeError."""
    listed = (await rest.call("GET", f"{site}/actions/runners/downloads")).body
    for told in listed:
        if (told["os"], told["architecture"]) == (system, _MACHINES.get(machine, machine)):
            break
    else:
        raise ForgeRefused(f"GitHub offers no runner for {system} on {machine}", hint="use another machine type")
    version = re.search(r"-(\d+\.\d+\.\d+)\.", told["filename"])
    if version is None or not told.get("sha256_checksum"):
        raise ForgeRefused(f"GitHub offers {told['filename']} without a version or a checksum")
    refused_at = await _refused_at(rest, site, version[1])
    return Software("actions-runner", version[1], told["download_url"], told["sha256_checksum"], refused_at)


async def _refused_at(rest: Rest, site: str, version: str) -> datetime | None:
    """None where it has not been said, or this GitHub does not say such things."""
    answer = await rest.call("GET", f"{site}/actions/runners/deprecations/{version}", expect=(404,))
    if answer.status == 404:
        return None
    ends = [answer.body.get(name) for name in ("registration_deprecates_at", "runtime_deprecates_at")]
    return min((moment(end) for end in ends if end), default=None)
