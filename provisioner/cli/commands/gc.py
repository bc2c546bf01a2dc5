"""`runner gc`: collect machines that nobody wants, what machines left behind, and runners that have no machine."""

from __future__ import annotations

import os
import time
from typing import Any

import click

from provisioner import app
from provisioner.cli import forge_rights, handover, health, render
from provisioner.cli.amounts import counted, duration
from provisioner.cli.embedded import connected, home
from provisioner.cli.failures import REFUSED, CliError, Unreachable


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be ended.")
@click.option("--expired", is_flag=True, help="Those past their expires-at, whoever launched them; needs no database.")
@click.option("--provider", default="", help="A cloud to look at without a controller, though it is not enabled.")
@click.option("--repo", default="", metavar="URL", help="Instead of machines, runners' records there without one.")
@click.option("--forge", default="", metavar="KIND", help="What kind of forge that is, if its host does not tell.")
@click.option("--older-than", default="1h", show_default=True, help="Of unknown runners, those of machines so old.")
@click.option("--wait", default="1m", show_default=True, help="They have to be offline twice, so long apart.")
@click.option("--json", "as_json", is_flag=True)
def command(**given: Any) -> None:
    """Collect orphaned machines, and what machines left behind."""
    if given["repo"] and (given["expired"] or given["provider"]):
        raise CliError("--repo is about runners at a forge, --expired and --provider about machines", "one at a time")
    told = _runners(given) if given["repo"] else _machines(given["dry_run"], given["expired"], given["provider"])
    if given["as_json"]:
        render.as_json([{"id": name, "ended": name in told["ended"]} for name in told["found"]])
    else:
        for name in told["found"]:
            print(f"{name} {'ended' if name in told['ended'] else 'found'}")
        if not told["found"]:
            render.say("runner: nothing to collect")
    if refused := told.get("refused"):
        name, why = next(iter(refused.items()))
        raise CliError(f"{counted(len(refused), 'runner')} stayed; {name}: {why}", "run it again", REFUSED)


def _machines(dry_run: bool, expired: bool, provider: str) -> dict[str, Any]:
    told: dict[str, Any] = {"found": [], "ended": []}
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
        others = app.gc_without_store(home(), dry_run=dry_run, expired=True, provider=provider, but=known)
        told = {part: [*told[part], *(one for one in others[part] if one not in told[part])] for part in told}
    return told


def _runners(given: dict[str, Any]) -> dict[str, Any]:
    """Two looks: what comes online between them is somebody's."""
    wait_s, older_s = duration(given["wait"], "--wait"), duration(given["older_than"], "--older-than")
    client, run = connected(), app.forge_kinds().run(os.environ)
    site = forge_rights.named(client, given["repo"], given["forge"], run)
    forge_rights.Rights(site, run).begin(client)
    asked = {"url": site.url, "forge": str(site.kind), "base": site.below, "older_than_s": older_s}
    told: dict[str, Any] = client.post("/gc/runners", asked)
    if told["found"]:
        render.say(f"runner: {counted(len(told['found']), 'runner')} offline at {site}; looking again in {wait_s:g} s")
        time.sleep(wait_s)
        told = client.post("/gc/runners", asked | {"seen": told["found"], "remove": not given["dry_run"]})
    return told
