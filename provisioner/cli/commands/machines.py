"""`runner machines`: what is rented now."""

from __future__ import annotations

import click

from provisioner.cli import render
from provisioner.cli.embedded import connected


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Those that are gone, too.")
@click.option("--json", "as_json", is_flag=True)
def command(everything: bool, as_json: bool) -> None:
    """List machines."""
    found = connected().get("/instances", all=int(everything))
    if as_json:
        render.as_json(found)
        return
    rows = [
        (
            one["id"],
            one["phase"],
            f"{one['offer']['provider']} {one['offer']['zone']} {one['offer']['instance_type']}",
            one.get("busy") or "",
            render.ago(one["created_at"]),
            render.usd(one.get("cost_usd")),
            render.reason(one["reason"]),
        )
        for one in found
    ]
    render.table(("MACHINE", "PHASE", "OFFER", "JOB", "CREATED", "COST", "WHY"), rows)
