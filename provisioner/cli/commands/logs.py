"""`runner logs`: a job's output, as it was."""

from __future__ import annotations

import click

from provisioner.cli import arguments
from provisioner.cli.attach import Attached
from provisioner.cli.embedded import connected
from provisioner.cli.failures import CliError


@click.command()
@arguments.job
@click.option("-f", "--follow", is_flag=True, help="Go on until the job is done.")
@click.option("--attempt", default="all", show_default=True, help="A number, `latest` or `all`.")
def command(job: str, follow: bool, attempt: str) -> None:
    """Print a job's log."""
    client = connected()
    shown = client.get(f"/jobs/{job}")
    job_id, had = shown["id"], shown["attempts"]
    if attempt.isdecimal() and int(attempt) > had and not (follow and shown["phase"] != "done"):
        raise CliError(f"{job_id} has no attempt {attempt}", f"it has had {had or 'none'} so far")
    Attached(client, job_id).follow_log(follow_on=follow, attempt=attempt)
