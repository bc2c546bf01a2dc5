"""Arguments that several commands take, and what a shell may complete them with."""

from __future__ import annotations

import click

from .embedded import connected
from .failures import CliError

_MOST = 200


def complete_jobs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return _known("/jobs", incomplete, all=1, limit=_MOST)


def complete_machines(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return _known("/instances", incomplete)


def _known(path: str, incomplete: str, **query: object) -> list[str]:
    """Ids that begin so; none without a controller, for completing must not start one."""
    try:
        found = connected(start=False).get(path, **query)
    except CliError:
        return []
    return [one["id"] for one in found if one["id"].startswith(incomplete)]


job = click.argument("job", shell_complete=complete_jobs)
