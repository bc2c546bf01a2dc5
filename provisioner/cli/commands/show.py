"""`runner show`: all about one job, its readings drawn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from provisioner.cli import arguments, render
from provisioner.cli.amounts import counted, shown_size, shown_span
from provisioner.cli.client import Client
from provisioner.cli.embedded import connected


@click.command()
@arguments.job
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
    for runner in shown.get("runners") or ():
        render.line(
            f"runner    {runner['name']} at {runner['site']}: {', '.join(_came(runner)) or 'not registered yet'}"
        )
    manifest = (shown.get("manifests") or {}).get("results") or {}
    for one in manifest.get("files") or []:
        render.line(f"output    {one['path']}  {shown_size(one['size'])}")
    for refused in manifest.get("refused") or []:
        render.line(f"not taken {refused}")


def _came(runner: dict[str, Any]) -> list[str]:
    """How far it has come, and when."""
    steps = (("online", "online_at"), ("given a job", "busy_at"), ("gone", "gone_at"))
    registered = ["registered"] if runner["forge_id"] else []
    return registered + [f"{what} {render.ago(runner[at])}" for what, at in steps if runner[at]]


def _head(job: dict[str, Any]) -> None:
    spec = job["spec"]
    run = spec["run"] if isinstance(spec["run"], str) else " ".join(spec["run"])
    render.line(f"job       {job['id']}  {spec['name']}")
    if asked := spec.get("runner"):
        render.line(f"runner of {asked['url']}, labels {','.join(asked['labels'])}, jobs {asked['jobs']}")
    else:
        render.line(f"run       {run}")
    state, reason = render.state(job["outcome"] or job["phase"]), render.plain(render.reason(job["reason"]))
    print(f"state     {state}  {reason}".rstrip())
    workspace = spec.get("workspace")
    if workspace:
        dirty = " with changes" if workspace["dirty"] else ""
        commit = f", commit {workspace['commit'][:12]}{dirty}" if workspace["commit"] else ""
        render.line(f"workspace {counted(workspace['files'], 'file')}, {shown_size(workspace['size'])}{commit}")
    render.line(f"cost      {render.usd(job.get('cost_usd'), job.get('cost_unknown', False))}, estimated")


def _attempt(client: Client, job_id: str, attempt: dict[str, Any]) -> None:
    state = f"{attempt['phase']} {render.reason(attempt['reason'])}".rstrip()
    render.line(f"attempt   {attempt['number']} on {attempt['instance_id']}: {state}")
    if taken := attempt.get("interruption"):
        _interruption(taken)
    facts = attempt.get("facts") or {}
    timings = {key: shown_span(value) for key, value in (facts.get("timings") or {}).items()}
    if timings:
        render.line("  timings " + ", ".join(f"{key.removesuffix('_s')} {value}" for key, value in timings.items()))
    if machine := facts.get("machine"):
        render.line(f"  machine {json.dumps(machine)}")
    for event in attempt.get("gpu_events") or ():
        render.line(f"  gpu     {event}")
    rows = client.get(f"/jobs/{job_id}/readings", attempt=attempt["number"])
    readings = [row[1] for row in rows]
    for name, scale, unit in (
        ("cpu", 100.0, "%"),
        ("memory_bytes", 1 / 2**20, "MiB"),
        ("disk_bytes", 1 / 2**30, "GiB"),
    ):
        _draw(name.split("_")[0], [row.get(name) for row in readings], scale, unit)
    for index in range(max((len(row.get("gpus", ())) for row in readings), default=0)):
        seen = [row["gpus"][index] for row in readings if len(row.get("gpus", ())) > index]
        for name, word, unit in (("utilization", "", "%"), ("used_mib", " mem", "MiB"), ("celsius", " temp", "C")):
            _draw(f"gpu{index}{word}", [one.get(name) for one in seen], 1.0, unit)


def _interruption(taken: dict[str, Any]) -> None:
    lost = f", lost {shown_span(taken['lost_s'])} of work" if "lost_s" in taken else ""
    when = " (in its first hour)" if taken.get("first_hour") else ""
    bill = ", which are not billed" if taken.get("unbilled") else ""
    render.line(f"  taken back after {shown_span(taken['lived_s'])}{when}{bill}{lost}")


def _draw(what: str, found: Sequence[object], scale: float, unit: str) -> None:
    """A line, if there is a number among what was found: a GPU need not tell everything."""
    values = [float(one) * scale for one in found if isinstance(one, int | float)]
    if values:
        render.line(f"  {what:10} {render.sparkline(values)} max {max(values):.0f} {unit}")
