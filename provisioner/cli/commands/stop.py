"""`runner stop`: end a machine, once what it has is safe."""

from __future__ import annotations

import click

from provisioner.cli import arguments, render
from provisioner.cli.embedded import connected
from provisioner.cli.failures import CliError


@click.command()
@arguments.machine
@click.option("--all", "everything", is_flag=True, help="Every machine.")
@click.option("--json", "as_json", is_flag=True)
def command(instance: str | None, everything: bool, as_json: bool) -> None:
    """Drain and end a machine."""
    if bool(instance) == everything:
        raise CliError("name a machine, or give --all", "`runner machines` lists them")
    client = connected()
    ids = [one["id"] for one in client.get("/instances")] if everything else [instance]
    told = [client.post(f"/instances/{one}/stop") for one in ids]
    if as_json:
        render.as_json(told)
        return
    for one in told:
        print(f"{one['id']} {one['phase']}, asked to stop")
