"""`runner serve`: be the controller."""

from __future__ import annotations

from pathlib import Path

import click

from provisioner.cli import render
from provisioner.cli.embedded import home


@click.command()
@click.option("--embedded", is_flag=True, hidden=True)
@click.option("--step-of", type=click.Path(path_type=Path), hidden=True)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0: any free one.")
@click.option("--tls", default="", metavar="auto | CERT,KEY", help="Serve TLS.")
@click.option("--install", is_flag=True, help="Have systemd start it now, at boot, and again when it fails.")
@click.option("--home", "folder", type=click.Path(path_type=Path), help="Where everything is kept (RUNNER_HOME).")
def command(
    embedded: bool, step_of: Path | None, host: str, port: int, tls: str, install: bool, folder: Path | None
) -> None:
    """Serve the API on TCP, and on two sockets in the home."""
    from provisioner import app

    if install:
        words = ["--host", host, "--port", str(port), *(["--tls", tls] if tls else [])]
        for line in app.install(folder or home(), words):
            render.say(f"runner: {line}")
        return
    app.serve(embedded=embedded, home=folder or home(), host=host, port=port, tls=tls, step_of=step_of)
