"""What a launch leaves in the forge's files: a step's outputs and summary at GitHub, Gitea and Forgejo, variables at
GitLab. What cannot be written is a CliError."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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


def bound(one: Mapping[str, Any]) -> str:
    """What a machine that was handed over may cost at most, and when it ends by itself."""
    hours = f"{float(one['lifetime_s']) / 3600:.4g} h"
    until = f"{str(one['ends_at'])[:19].replace('T', ' ')} UTC"
    if one["at_most_usd"] is None:
        return f"its price is unknown; it ends by itself within {hours} of its launch, by {until}"
    price = f"${float(one['usd_per_hour']):.4g}/h for {hours}"
    return f"at most ${one['at_most_usd']} ({price}); it ends by itself by {until}"


def write_bounds(path: Path, told: Sequence[Mapping[str, Any]]) -> None:
    """Into the summary that the forge shows with the step."""
    rows = [f"| `{one['runner']}` | {one['offer']} | {bound(one)} |" for one in told]
    _append(path, "\n".join(("", "| runner | machine | upper bound |", "|---|---|---|", *rows, "")))


def _append(path: Path, text: str) -> None:
    try:
        with path.open("a") as file:
            file.write(text)
    except OSError as error:
        raise CliError(f"cannot write {path}: {error.strerror}", "the runners are up", OURS) from error
