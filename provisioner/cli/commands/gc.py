"""`runner gc`: collect machines that nobody wants, and what machines left behind."""

from __future__ import annotations

import os

import click

from provisioner.cli import forge_rights, handover, health, render
from provisioner.cli.embedded import connected, home
from provisioner.cli.failures import Unreachable


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be ended.")
@click.option("--expired", is_flag=True, help="Those past their expires-at, whoever launched them; needs no database.")
@click.option("--provider", default="", help="A cloud to look at without a controller, though it is not enabled.")
@click.option("--json", "as_json", is_flag=True)
def command(dry_run: bool, expired: bool, provider: str, as_json: bool) -> None:
    """Collect orphaned machines, and what machines left behind."""
    told: dict[str, list[str]] = {"found": [], "ended": []}
    alone = expired and not os.environ.get("RUNNER_SERVER")
    known = ""
    try:
        client = connected(start=not expired)
        handover.of_used(client).begin(client)
        forge_rights.of_lost(client)
        told = client.post("/gc", {"dry_run": dry_run, "expired": expired})
        health.say_paused(client, "its machines were not looked at")
        known = str(client.told.get("controller_id", ""))
    except Unreachable:
        if not alone:
            raise
    if alone:  # a controller sees its own machines only
        from provisioner import app

        others = app.gc_without_store(home(), dry_run=dry_run, expired=True, provider=provider, but=known)
        told = {part: [*told[part], *(one for one in others[part] if one not in told[part])] for part in told}
    if as_json:
        render.as_json([{"id": name, "ended": name in told["ended"]} for name in told["found"]])
        return
    for name in told["found"]:
        print(f"{name} {'ended' if name in told['ended'] else 'found'}")
    if not told["found"]:
        render.say("runner: nothing to collect")
