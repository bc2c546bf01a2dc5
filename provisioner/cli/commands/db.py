"""`runner db`: chores on the database."""

from __future__ import annotations

from pathlib import Path

import click

from provisioner.cli import render
from provisioner.cli.embedded import home


@click.command()
@click.argument("action", type=click.Choice(["upgrade", "backup", "rekey", "restore"]))
@click.argument("file", required=False, type=click.Path(path_type=Path))
def command(action: str, file: Path | None) -> None:
    """Upgrade, back up, rekey or restore the database."""
    from provisioner import app

    render.say(f"runner: {app.db(action, home(), path=file)}")
