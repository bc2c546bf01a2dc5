"""`runner ps`: jobs, newest first."""

from __future__ import annotations

import click

from provisioner.cli import health, render
from provisioner.cli.embedded import connected


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Those that are done, too.")
@click.option("--limit", default=100, show_default=True, help="At most this many.")
@click.option("--json", "as_json", is_flag=True)
def command(everything: bool, limit: int, as_json: bool) -> None:
    """List jobs."""
    client = connected()
    jobs = client.get("/jobs", all=int(everything), limit=limit)
    health.say_paused(client)
    if as_json:
        render.as_json(jobs)
        return
    rows = [
        (
            job["id"],
            job["spec"]["name"],
            render.state(job["outcome"] or job["phase"]),
            render.ago(job["created_at"]),
            render.usd(job.get("cost_usd"), job.get("cost_unknown", False)),
            render.reason(job["reason"]),
        )
        for job in jobs
    ]
    render.table(("JOB", "NAME", "STATE", "CREATED", "COST", "WHY"), rows)
