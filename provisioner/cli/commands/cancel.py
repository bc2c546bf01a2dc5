"""`runner cancel`: one job, or all that this CI run launched."""

from __future__ import annotations

import os
from typing import Any

import click

from provisioner import app
from provisioner.cli import arguments, render
from provisioner.cli.client import Client
from provisioner.cli.embedded import connected
from provisioner.cli.failures import CliError
from provisioner.cli.insist import all_of, cancel, insist, unanswered
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
    failed: dict[str, CliError] = {}
    if of_run:
        told, failed = _of_run(now)
    else:
        told = [_cancel(connected(), job or "", now)]
    if as_json:
        render.as_json(told if of_run else told[0])
    else:
        for one in told:
            print(f"{one['id']} {one['outcome'] or 'is asked to end'}")
    if failed:
        raise all_of(failed, "cancel")


def _of_run(now: bool) -> tuple[list[dict[str, Any]], dict[str, CliError]]:
    """Those that are not done; and which of them were not cancelled, and why. Raises: CliError."""
    run = app.forge_kinds().run(os.environ)
    if run is None:
        raise CliError("--of-run: this is no CI run", "`runner cancel JOB` cancels one")
    if not os.environ.get("RUNNER_SERVER"):
        render.say(NOTHING_TO_CANCEL)
        return [], {}
    client = connected()
    found = [(one["id"], one["spec"].get("runner")) for one in _listed(client)]
    ids = [job for job, runner in found if runner and is_of(run, runner["url"], runner["labels"])]
    if not ids:
        render.say("runner: nothing to cancel")
    told, failed = insist(ids, lambda job: cancel(client, job, now=now), unanswered)
    return list(told.values()), failed


def _listed(client: Client) -> list[dict[str, Any]]:
    """Raises: CliError."""
    path = "/jobs"
    told, failed = insist([path], lambda path: client.get(path, limit=_MOST), unanswered)
    if failed:
        raise failed[path]
    listed: list[dict[str, Any]] = told[path]
    return listed


def _cancel(client: Client, job: str, now: bool) -> dict[str, Any]:
    return cancel(client, client.get(f"/jobs/{job}")["id"], now=now)
