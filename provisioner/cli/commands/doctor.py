"""`runner doctor`: what is fine here and what is not."""

from __future__ import annotations

import os

import click

from provisioner.cli import health, render
from provisioner.cli.embedded import another, home
from provisioner.cli.failures import CliError

_MARK = {True: "ok  ", False: "BAD ", None: "note"}


@click.command()
@click.option("--provider", default="", help="Look at one provider more closely.")
@click.option("--json", "as_json", is_flag=True)
def command(provider: str, as_json: bool) -> int:
    """Check this installation."""
    from provisioner import app

    lines = [*app.doctor(home(), provider), *_paused()]
    if as_json:
        render.as_json([{"id": str(n), "ok": ok, "text": text} for n, (ok, text) in enumerate(lines)])
    else:
        for ok, text in lines:
            print(f"{_MARK[ok]} {text}")
    return int(any(ok is False for ok, _ in lines))


def _paused() -> list[tuple[bool | None, str]]:
    """What a controller that runs launches nothing at, and why, and where that will soon be so."""
    try:
        told = health.look(another(os.environ.get("RUNNER_SERVER") or f"unix:{home() / 'control.sock'}"))
        soon: list[tuple[bool | None, str]] = [(None, str(text)) for text in told.get("warnings") or ()]
        return [*((False, str(why)) for why in (told.get("paused") or {}).values()), *soon]
    except CliError:
        return []
