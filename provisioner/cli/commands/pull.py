"""`runner pull`: results here, verified, and never half a file.

A file grows as a hidden `.part` beside its place, is resumed where it broke, and takes its name once its hash is right.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from provisioner.cli import arguments, render
from provisioner.cli.amounts import counted, shown_size
from provisioner.cli.bring import bring
from provisioner.cli.embedded import connected
from provisioner.cli.failures import CliError


@click.command()
@arguments.job
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--attempt", type=int, help="Of this attempt (default: the newest that has results).")
@click.option("--json", "as_json", is_flag=True)
def command(job: str, folder: Path | None, attempt: int | None, as_json: bool) -> None:
    """Bring a job's outputs here. Running it again fetches only what is missing."""
    client = connected()
    shown = client.get(f"/jobs/{job}")
    job_id = shown["id"]
    told = client.get(f"/jobs/{job_id}/results", attempt=attempt)
    manifest = told.get("manifest")
    if not manifest and shown["phase"] == "done":
        raise CliError(f"{job_id} ended without any results", f"`runner show {job_id}` says what it was to leave", 1)
    if not manifest:
        raise CliError(f"{job_id} has no results yet", "it has them once an output was synced", 1)
    top = folder or Path(job_id)
    files: list[dict[str, Any]] = manifest["files"]
    fetched = bring(client, f"/jobs/{job_id}/results/{told['attempt']}", files, top)
    if as_json:
        render.as_json([{"id": one["path"], **one} for one in files])
    state = "" if told["final"] else " so far; the job goes on"
    total = shown_size(sum(one["size"] for one in fetched))
    render.say(f"runner: {len(fetched)} of {counted(len(files), 'file')} fetched ({total}) into {top}{state}")
