"""`runner why`: what stops a job or a pool, or what became of it, from recorded decisions."""

from __future__ import annotations

import click

from provisioner.cli import arguments, render
from provisioner.cli.embedded import connected

_POOL = "pool%2F"  # as the argument comes: one part of a URL's path


@click.command()
@arguments.job
@click.option("--json", "as_json", is_flag=True)
def command(job: str, as_json: bool) -> None:
    """Say why a job is as it is, or a pool: pool/NAME."""
    of_pool = job.startswith(_POOL)
    told = connected().get(f"/pools/{job.removeprefix(_POOL)}/why" if of_pool else f"/jobs/{job}/why")
    if as_json:
        render.as_json(told)
        return
    for line in told["lines"]:
        render.line(line)
    for rung in told.get("ladder") or []:
        render.line(f"  {rung['offer']}: {rung['refused'] or 'would be taken'}")
