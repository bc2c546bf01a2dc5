"""`runner cancel`."""

from __future__ import annotations

import click

from provisioner.cli import arguments, render
from provisioner.cli.embedded import connected


@click.command()
@arguments.job
@click.option("--now", is_flag=True, help="At once, without grace.")
@click.option("--json", "as_json", is_flag=True)
def command(job: str, now: bool, as_json: bool) -> None:
    """Cancel a job."""
    client = connected()
    told = client.post(f"/jobs/{client.get(f'/jobs/{job}')['id']}/cancel", {"now": now})
    render.as_json(told) if as_json else print(f"{told['id']} {told['outcome'] or 'is asked to end'}")
