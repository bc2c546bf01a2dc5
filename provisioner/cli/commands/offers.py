"""`runner offers`: what could be had, in the order in which it would be tried."""

from __future__ import annotations

import click

from provisioner.cli import handover, jobfile, render
from provisioner.cli.embedded import connected


@click.command()
@click.option("--gpu", default="")
@click.option("--cpus", default="")
@click.option("--memory", default="")
@click.option("--disk", default="")
@click.option("--market", default="")
@click.option("--provider", default="")
@click.option("--max-price", default="")
@click.option("--json", "as_json", is_flag=True)
def command(as_json: bool, **asked: str) -> None:
    """List offers."""
    spec = jobfile.spec({"run": "true", "resources": {key: value for key, value in asked.items() if value}})
    client = connected()
    handover.of_job(client, spec["need"]).begin(client)
    found = client.get("/offers", **asked)
    if as_json:
        render.as_json([{"id": one["text"], **one} for one in found])
        return
    render.table(("OFFER", "NOT TAKEN BECAUSE"), [(one["text"], one["refused"]) for one in found])
