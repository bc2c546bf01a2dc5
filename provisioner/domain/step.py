"""Where a command stands when a forge's CI runs it: read from the step's environment and the event that began the run.

Pure. How it is read from that is each forge's own affair (`CiJobs` in kinds.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import InvalidRequest
from .forge import ForgeKind, Site, Target

_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_WHATS = {"pr": "pr", "mr": "pr", "issue": "issue", "commit": "commit"}


@dataclass(frozen=True, slots=True)
class Step:
    """`sha` is the commit that somebody wrote, never the forge's trial merge. `target_branch` is what a pull request
    goes into, `base_sha` the commit that it began from where the forge says. `summary` and `output` are files that the
    forge reads after the step; "" where it has none. `api` is the address of the forge's API, "" if it did not say."""

    kind: ForgeKind
    site: Site
    target: Target
    sha: str
    run_id: str = ""
    run_url: str = ""
    api: str = ""
    target_branch: str = ""
    base_sha: str = ""
    summary: str = ""
    output: str = ""


def parse_target(text: str) -> Target:
    """`pr/42`, `commit/SHA` or `issue/1`. Raises: InvalidRequest."""
    what, _, ref = text.partition("/")
    known = _WHATS.get(what)
    if known is None or not (_SHA.fullmatch(ref) if known == "commit" else re.fullmatch(r"[1-9]\d{0,17}", ref)):
        raise InvalidRequest(f"not a target: {text[:80]!r}", hint="write pr/42, issue/1 or commit/SHA, the whole of it")
    return Target(known, ref)
