"""Metrics as they were before: out of git, at a commit or where a pull request began."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from provisioner.domain.errors import InvalidRequest, NotFound
from provisioner.domain.metrics import Source

from .files import parse_metrics

_TIMEOUT_S = 60.0
_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def commit_of(ref: str, folder: Path) -> str:
    """The commit that a name stands for. Raises: NotFound."""
    found = _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if found is None or not _SHA.fullmatch(text := found.decode().strip()):
        raise NotFound(
            f"there is no file and no commit {ref!r} here", hint="fetch it: a shallow checkout lacks most of them"
        )
    return text


def merge_base(target_branch: str, folder: Path, known: str = "") -> str:
    """Where HEAD left the branch it goes into; `known` is tried first. "" where this checkout cannot tell."""
    if known and _git(folder, "cat-file", "-e", f"{known}^{{commit}}") is not None:
        return known
    for ref in (f"refs/remotes/origin/{target_branch}", f"refs/heads/{target_branch}") if target_branch else ():
        found = _git(folder, "merge-base", "HEAD", ref)
        if found and _SHA.fullmatch(text := found.decode().strip()):
            return text
    return ""


def metrics_at(commit: str, names: Sequence[str], folder: Path) -> list[Source]:
    """The files that were there then, read as they are now. Raises: InvalidRequest."""
    sources = []
    for name in names:
        below = os.path.relpath(folder / name, folder)
        if below.startswith("..") or os.path.isabs(below):
            raise InvalidRequest(f"{name} is not below this folder, so git cannot tell what it was")
        data = _git(folder, "show", f"{commit}:./{below}")
        if data is not None:
            sources.append(Source(name, parse_metrics(data, f"{commit[:12]}:{name}").values))
    return sources


def _git(folder: Path, *words: str) -> bytes | None:
    """What it printed; None when it said no, or is not there."""
    try:
        done = subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, stdin=subprocess.DEVNULL, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
