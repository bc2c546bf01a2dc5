"""`runner show`: all about one job, its readings drawn."""

from __future__ import annotations

import json
from typing import Any

import click

from provisioner.cli import render
from provisioner.cli.amounts import shown_size, shown_span
from provisioner.cli.client import Client
from provisioner.cli.embedded import connected


@click.command()
@click.argument("job")
@click.option("--json", "as_json", is_flag=True)
def command(job: str, as_json: bool) -> None:
    """Show a job: its record, attempts, results, readings and cost."""
    client = connected()
    shown = client.get(f"/jobs/{job}")
    if as_json:
        render.as_json(shown)
        return
    _head(shown)
    for attempt in shown["attempts_list"]:
        _attempt(client, shown["id"], attempt)
    manifest = (shown.get("manifests") or {}).get("results") or {}
    for one in manifest.get("files") or []:
        print(f"output    {one['path']}  {shown_size(one['size'])}")
    for refused in manifest.get("refused") or []:
        print(f"not taken {refused}")


def _head(job: dict[str, Any]) -> None:
    spec = job["spec"]
    run = spec["run"] if isinstance(spec["run"], str) else " ".join(spec["run"])
    print(f"job       {job['id']}  {spec['name']}")
    print(f"run       {run}")
    print(f"state     {job['outcome'] or job['phase']}  {render.reason(job['reason'])}".rstrip())
    workspace = spec.get("workspace")
    if workspace:
        dirty = " with changes" if workspace["dirty"] else ""
        commit = f", commit {workspace['commit'][:12]}{dirty}" if workspace["commit"] else ""
        print(f"workspace {workspace['files']} files, {shown_size(workspace['size'])}{commit}")
    print(f"cost      {render.usd(job.get('cost_usd'), job.get('cost_unknown', False))}, estimated")


def _attempt(client: Client, job_id: str, attempt: dict[str, Any]) -> None:
    state = f"{attempt['phase']} {render.reason(attempt['reason'])}".rstrip()
    print(f"attempt   {attempt['number']} on {attempt['instance_id']}: {state}")
    facts = attempt.get("facts") or {}
    timings = {key: shown_span(value) for key, value in (facts.get("timings") or {}).items()}
    if timings:
        print("  timings " + ", ".join(f"{key.removesuffix('_s')} {value}" for key, value in timings.items()))
    if machine := facts.get("machine"):
        print(f"  machine {json.dumps(machine)}")
    rows = client.get(f"/jobs/{job_id}/readings", attempt=attempt["number"])
    for name, scale in (("cpu", 100.0), ("memory_bytes", 1 / 2**20), ("disk_bytes", 1 / 2**30)):
        values = [float(row[1][name]) * scale for row in rows if name in row[1]]
        if values:
            unit = {"cpu": "%", "memory_bytes": "MiB", "disk_bytes": "GiB"}[name]
            print(f"  {name.split('_')[0]:7} {render.sparkline(values)} max {max(values):.0f} {unit}")
