"""Arguments that several commands take, and what a shell may complete them with."""

from __future__ import annotations

from urllib.parse import quote

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


def _as_path(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """One part of a URL's path, whatever a user may have typed."""
    if value is not None and not value.strip(" ./"):
        raise click.BadParameter(f"{value!r} is no name", ctx, param)
    return value and quote(value, safe="")


def _as_paths(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> list[str | None]:
    return [_as_path(ctx, param, one) for one in value]


def named(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """What something is called, and found again by."""
    if not value.strip():
        raise click.BadParameter("is empty", ctx, param)
    return value


job = click.argument("job", shell_complete=complete_jobs, callback=_as_path)
any_job = click.argument("job", required=False, shell_complete=complete_jobs, callback=_as_path)
jobs = click.argument("jobs", nargs=-1, shell_complete=complete_jobs, callback=_as_paths)
machine = click.argument("instance", required=False, shell_complete=complete_machines, callback=_as_path)
