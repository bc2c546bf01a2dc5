"""`runner rerun`: the same job once more, from its record."""

from __future__ import annotations

import os

import click

from provisioner.cli import arguments, handover
from provisioner.cli.commands.run import submit
from provisioner.cli.embedded import connected


@click.command()
@arguments.job
@click.option("--detach", is_flag=True, help="Leave it running and return.")
@click.option("--json", "as_json", is_flag=True)
def command(job: str, detach: bool, as_json: bool) -> int:
    """Run a job again, exactly as it was recorded."""
    client = connected()
    shown = client.get(f"/jobs/{job}")
    secrets = {name: os.environ[name] for name in shown["spec"]["secrets"] if name in os.environ}
    handing = handover.of_job(client, shown["spec"].get("need") or {})
    handing.begin(client)
    return submit(client, f"/jobs/{shown['id']}/rerun", {"secrets": secrets}, handing, detach=detach, as_json=as_json)
