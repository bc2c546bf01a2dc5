"""`runner serve`: be the controller."""

from __future__ import annotations

from pathlib import Path

import click

from provisioner.cli.embedded import home


@click.command()
@click.option("--embedded", is_flag=True, hidden=True)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8765, show_default=True)
@click.option("--tls", default="", metavar="auto | CERT,KEY", help="Serve TLS.")
@click.option("--home", "folder", type=click.Path(path_type=Path), help="Where everything is kept (RUNNER_HOME).")
def command(embedded: bool, host: str, port: int, tls: str, folder: Path | None) -> None:
    """Serve the API on TCP, and on two sockets in the home."""
    from provisioner import app

    app.serve(embedded=embedded, home=folder or home(), host=host, port=port, tls=tls)
