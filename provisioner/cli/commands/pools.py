"""`runner pools`: runners that are kept for a forge's CI jobs."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from provisioner.cli import render
from provisioner.cli.embedded import connected

_STAGES = ("waiting", "coming", "idle", "busy", "ending")


@click.group()
def command() -> None:
    """List and show pools of CI runners; the settings make them."""


@command.command("ls")
@click.option("--json", "as_json", is_flag=True)
def ls(as_json: bool) -> None:
    """List pools: jobs that wait, runners without a job that ought to be there, and those that are there."""
    found = connected().get("/pools")
    if as_json:
        render.as_json(found)
        return
    head = ("POOL", "LABELS", "JOBS", "WANTED", *(stage.upper() for stage in _STAGES), "MAX")
    render.table(head, [_row(one) for one in found])


@command.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True)
def show(name: str, as_json: bool) -> None:
    """Show a pool: why it is as it is, the jobs that wait for it, and its runners."""
    one = connected().get(f"/pools/{quote(name, safe='')}")
    if as_json:
        render.as_json(one)
        return
    render.line(f"{one['id']}: {', '.join(one['labels'])} at {', '.join(one['sites'])}")
    for line in one["why"]:
        render.line(f"  {line}")
    if one["jobs"]:
        print()
        rows = [
            (j["id"], j["repository"], j["name"], ", ".join(j["labels"]), f"{j['waited_s']} s") for j in one["jobs"]
        ]
        render.table(("CI JOB", "REPOSITORY", "NAME", "LABELS", "WAITED"), rows)
    if one["made"]:
        print()
        runners = [(r["job"], r["stage"], r["repository"] or "kept ready", r["site"]) for r in one["made"]]
        render.table(("RUNNER", "STAGE", "FOR", "SITE"), runners)


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    counts = (one["runners"][stage] for stage in _STAGES)
    return one["id"], ", ".join(one["labels"]), one["queued"], one["wanted"], *counts, one["max"]
