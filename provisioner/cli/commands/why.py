"""`runner why`: what stops a job, or what became of it, from recorded decisions."""

from __future__ import annotations

import click

from provisioner.cli import arguments, render
from provisioner.cli.embedded import connected


@click.command()
@arguments.job
@click.option("--json", "as_json", is_flag=True)
def command(job: str, as_json: bool) -> None:
    """Say why a job is as it is."""
    told = connected().get(f"/jobs/{job}/why")
    if as_json:
        render.as_json(told)
        return
    for line in told["lines"]:
        print(line)
    for rung in told.get("ladder") or []:
        print(f"  {rung['offer']}: {rung['refused'] or 'would be taken'}")
