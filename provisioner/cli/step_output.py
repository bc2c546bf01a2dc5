"""What a launch leaves for the jobs after it: a step's outputs at GitHub, Gitea and Forgejo, variables at GitLab."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from .failures import OURS, CliError


def write_outputs(path: Path, label: str, labels: Sequence[str], jobs: Sequence[str]) -> None:
    """`labels` and `jobs` as JSON lists: `runs-on: ${{ fromJSON(...) }}`. Whatever a value holds, it is one value.

    Source: GitHub, "Workflow commands", multiline strings, 2026."""
    values = {"label": label, "labels": json.dumps(list(labels)), "jobs": json.dumps(list(jobs))}
    mark = f"end-{secrets.token_hex(16)}"
    _append(path, "".join(f"{name}<<{mark}\n{value}\n{mark}\n" for name, value in values.items()))


def write_dotenv(path: Path, label: str, labels: Sequence[str], jobs: Sequence[str]) -> None:
    """A line each, no quotes: GitLab takes them for part of the value. Source: GitLab, "artifacts:reports:dotenv"."""
    values: Mapping[str, str] = {
        "RUNNER_LABEL": label,
        "RUNNER_LABELS": ",".join(labels),
        "RUNNER_JOBS": ",".join(jobs),
    }
    _append(path, "".join(f"{name}={value}\n" for name, value in values.items()))


def _append(path: Path, text: str) -> None:
    try:
        with path.open("a") as file:
            file.write(text)
    except OSError as error:
        raise CliError(f"cannot write {path}: {error.strerror}", "the runners are up", OURS) from error
