"""`runner doctor`: what is fine here and what is not."""

from __future__ import annotations

import click

from provisioner.cli import render
from provisioner.cli.embedded import home

_MARK = {True: "ok  ", False: "BAD ", None: "note"}


@click.command()
@click.option("--provider", default="", help="Look at one provider more closely.")
@click.option("--json", "as_json", is_flag=True)
def command(provider: str, as_json: bool) -> int:
    """Check this installation."""
    from provisioner import app

    lines = app.doctor(home(), provider)
    if as_json:
        render.as_json([{"id": str(n), "ok": ok, "text": text} for n, (ok, text) in enumerate(lines)])
    else:
        for ok, text in lines:
            print(f"{_MARK[ok]} {text}")
    return int(any(ok is False for ok, _ in lines))
