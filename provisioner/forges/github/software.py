"""The runner program that GitHub offers, and when it will refuse it.

GitHub lists its newest version with its sha256, and that is what machines get, from a mirror if there is one. Of
another version only the settings can say what its sha256 is, or a mirror: as FILE.sha256 beside the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from provisioner.domain.errors import ForgeRefused
from provisioner.domain.forge import Release, Software

from ..checksums import published
from ..line import Line
from ..rest import Rest
from .program import NAME
from .shapes import moment

_MACHINES = {"x86_64": "x64", "aarch64": "arm64"}
_VERSION = re.compile(r"-(\d+\.\d+\.\d+)\.")


@dataclass(frozen=True, slots=True)
class Listed:
    """Where a GitHub lists its programs: `place` is a site's path in the API."""

    rest: Rest
    place: str


async def find_software(listed: Listed, line: Line, release: Release, system: str, machine: str) -> Software:
    """Raises: ForgeError."""
    newest, file = await _newest(listed, system, machine)
    version, source = release.version or newest.version, release.source.rstrip("/")
    file = file.replace(newest.version, version)
    url = f"{source}/v{version}/{file}" if source else newest.url.replace(newest.version, version)
    sha256 = release.pinned(machine) or (newest.sha256 if version == newest.version else "")
    if not sha256 and not source:
        hint = f"give its `runner_sha256`, or a mirror that has {file}.sha256"
        raise ForgeRefused(f"GitHub tells no sha256 of its runner {version}, only of {newest.version}", hint=hint)
    sha256 = sha256 or await published(line, f"{url}.sha256", file)
    return Software(NAME, version, url, sha256, await _refused_at(listed, version))


async def _newest(listed: Listed, system: str, machine: str) -> tuple[Software, str]:
    """With the name of its file."""
    for told in (await listed.rest.call("GET", f"{listed.place}/actions/runners/downloads")).body:
        if (told["os"], told["architecture"]) == (system, _MACHINES.get(machine, machine)):
            break
    else:
        raise ForgeRefused(f"GitHub offers no runner for {system} on {machine}", hint="use another machine type")
    version = _VERSION.search(told["filename"])
    if version is None or not told.get("sha256_checksum"):
        raise ForgeRefused(f"GitHub offers {told['filename']} without a version or a checksum")
    url, file = str(told["download_url"]), str(told["filename"])
    return Software(NAME, version[1], url, str(told["sha256_checksum"])), file


async def _refused_at(listed: Listed, version: str) -> datetime | None:
    """None where it has not been said, or this GitHub does not say such things."""
    answer = await listed.rest.call("GET", f"{listed.place}/actions/runners/deprecations/{version}", expect=(404,))
    if answer.status == 404:
        return None
    ends = [answer.body.get(name) for name in ("registration_deprecates_at", "runtime_deprecates_at")]
    return min((moment(end) for end in ends if end), default=None)
