"""`runner offers`: what could be had, in the order in which it would be tried.

A running controller is asked, because it knows what was refused; without one the answer comes from the files here.
"""

from __future__ import annotations

import os
from typing import Any

import click

from provisioner.cli import jobfile, render
from provisioner.cli.embedded import connected, home
from provisioner.cli.failures import CliError, Unreachable

_SEVERAL = ("provider", "region")
_STALE_S = 7 * 86400  # arbitrary: spot prices have moved by then


@click.command()
@click.option("--gpu", default="")
@click.option("--cpus", default="")
@click.option("--memory", default="")
@click.option("--disk", default="")
@click.option("--market", default="")
@click.option("--provider", default="")
@click.option("--region", default="")
@click.option("--instance-type", default="")
@click.option("--max-price", default="")
@click.option("--refresh", is_flag=True, help="Read types and prices anew from the cloud, with your credentials.")
@click.option("--json", "as_json", is_flag=True)
def command(as_json: bool, refresh: bool, **asked: str) -> None:
    """List offers, and say how old each source of prices is."""
    resources = {key: value.split(",") if key in _SEVERAL else value for key, value in asked.items() if value}
    need = jobfile.spec({"run": "true", "resources": resources})["need"]
    if refresh:
        _refresh(asked["provider"], as_json)
        return
    found = _found(need, asked)
    if as_json:
        render.as_json([{"id": one["text"], **one} for one in found])
    else:
        render.table(("OFFER", "NOT TAKEN BECAUSE"), [(one["text"], one["refused"]) for one in found])
    _say_ages(found)


def _found(need: dict[str, Any], asked: dict[str, str]) -> list[dict[str, Any]]:
    from provisioner import app

    server = os.environ.get("RUNNER_SERVER")
    try:
        client = connected(start=False)
        known = set(client.get("/status").get("providers", need.get("providers", ())))
    except Unreachable:
        if server:
            raise
        return app.offers(home(), need)
    if not server and not known.issuperset(need.get("providers", ())):
        return app.offers(home(), need)
    sizes = {"cpus": need.get("cpus"), "memory": need.get("memory_gib"), "disk": need.get("disk_gib")}
    found: list[dict[str, Any]] = client.get("/offers", **asked | {key: size or "" for key, size in sizes.items()})
    return found


def _say_ages(found: list[dict[str, Any]]) -> None:
    """A line a source, on standard error."""
    ages = {one["offer"]["price_source"]: one["age_s"] for one in found if one.get("age_s") is not None}
    for source, age_s in ages.items():
        stale = "; `runner offers --refresh` reads them anew" if age_s > _STALE_S else ""
        render.say(f"runner: prices of {source} are {render.lasted(age_s)} old{stale}")


def _refresh(provider: str, as_json: bool) -> None:
    from provisioner import app

    if os.environ.get("RUNNER_SERVER"):
        raise CliError("--refresh reads for the controller of this computer", "run it where RUNNER_SERVER runs")
    regions = app.refresh_offers(home(), provider)
    if as_json:
        render.as_json(regions)
    for one in regions:
        for what, why in one["failed"].items():
            render.say(f"runner: {one['id']}: {what} are kept as they were: {why}")
    whole = [one["id"] for one in regions if not one["failed"]]
    render.say(f"runner: {len(whole)} of {len(regions)} regions were read whole: {', '.join(whole) or 'none'}")
