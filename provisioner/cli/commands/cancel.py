"""`runner cancel`: one job, or all that this CI run launched."""

from __future__ import annotations

import os

import click

from provisioner import app
from provisioner.cli import arguments, render
from provisioner.cli.client import Client
from provisioner.cli.embedded import connected
from provisioner.cli.failures import CliError
from provisioner.cli.of_step import NOTHING_TO_CANCEL
from provisioner.domain.launching import is_of

_MOST = 10_000  # as many as are listed


@click.command()
@arguments.any_job
@click.option("--of-run", is_flag=True, help="All that this CI run launched, in whichever of its jobs.")
@click.option("--now", is_flag=True, help="At once, without grace.")
@click.option("--json", "as_json", is_flag=True)
def command(job: str | None, of_run: bool, now: bool, as_json: bool) -> None:
    """Cancel a job."""
    if bool(job) == of_run:
        raise CliError("name a job, or give --of-run in a CI run", "`runner ps` lists them")
    told = _of_run(now) if of_run else [_cancel(connected(), job or "", now)]
    if as_json:
        render.as_json(told if of_run else told[0])
        return
    for one in told:
        print(f"{one['id']} {one['outcome'] or 'is asked to end'}")


def _of_run(now: bool) -> list[dict[str, object]]:
    """Those that are not done. Raises: CliError."""
    run = app.forge_kinds().run(os.environ)
    if run is None:
        raise CliError("--of-run: this is no CI run", "`runner cancel JOB` cancels one")
    if not os.environ.get("RUNNER_SERVER"):
        render.say(NOTHING_TO_CANCEL)
        return []
    client = connected()
    found = [(one["id"], one["spec"].get("runner")) for one in client.get("/jobs", limit=_MOST)]
    ids = [job for job, runner in found if runner and is_of(run, runner["url"], runner["labels"])]
    if not ids:
        render.say("runner: nothing to cancel")
    return [_cancel(client, job, now) for job in ids]


def _cancel(client: Client, job: str, now: bool) -> dict[str, object]:
    told: dict[str, object] = client.post(f"/jobs/{client.get(f'/jobs/{job}')['id']}/cancel", {"now": now})
    return told
