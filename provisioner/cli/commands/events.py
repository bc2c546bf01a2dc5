"""`runner events`: what happened, in order."""

from __future__ import annotations

import json
from typing import Any

import click

from provisioner.cli import render
from provisioner.cli.embedded import again, connected
from provisioner.cli.failures import Unreachable

_PAGE = 1000  # events asked for at once; arbitrary


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on as they happen.")
@click.option("--job", default="", help="Of one job only.")
@click.option("--instance", default="", help="Of one machine only.")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many.")
@click.option("--json", "as_json", is_flag=True, help="With --follow, an object a line.")
def command(follow: bool, job: str, instance: str, limit: int | None, as_json: bool) -> None:
    """List events."""
    client = connected()
    found = client.get("/events", job=job, instance=instance, limit=limit or _PAGE)
    if not follow:
        while (
            limit is None
            and len(found) % _PAGE == 0
            and (
                more := client.get(
                    "/events", job=job, instance=instance, limit=_PAGE, after=found[-1]["id"] if found else 0
                )
            )
        ):
            found += more
        render.as_json(found) if as_json else _print(found)
        return
    after = 0
    while True:
        for event in found:
            after = event["id"]
            if as_json:
                print(json.dumps(event), flush=True)
            else:
                _print([event])
        try:
            found = client.get("/events", job=job, instance=instance, limit=_PAGE, after=after, wait_s=20)
        except Unreachable:
            again(client)
            found = []


def _print(events: list[dict[str, Any]]) -> None:
    for event in events:
        who = " ".join(filter(None, (event["job_id"], event["instance_id"])))
        render.line(f"{event['at'][:19]} {event['what']:24} {who} {event['message']}".rstrip())
        for line in (event.get("data") or {}).get("lines", ()):
            render.line(f"  | {line}")
