"""`runner secret`: values that jobs may ask for by name."""

from __future__ import annotations

import sys

import click

from provisioner.cli import render
from provisioner.cli.embedded import connected
from provisioner.cli.failures import CliError


@click.group()
def command() -> None:
    """Set, list and remove secrets."""


@command.command("set")
@click.argument("name")
def set_(name: str) -> None:
    """Set a secret; the value is read from standard input, never from the command line."""
    if sys.stdin.isatty():
        value = click.prompt(f"value of {name}", hide_input=True, err=True)
    else:
        value = sys.stdin.read().removesuffix("\n")
    if len(value) < 6:
        raise CliError(f"secret {name} is shorter than 6 characters", "it could not be masked; nothing was stored")
    connected().ask("PUT", f"/secrets/{name}", {"value": value})


@command.command("ls")
@click.option("--json", "as_json", is_flag=True)
def ls(as_json: bool) -> None:
    """List names and fingerprints, never values."""
    found = connected().get("/secrets")
    if as_json:
        render.as_json([{"id": one["name"], **one} for one in found])
        return
    rows = [(one["name"], one["fingerprint"], render.ago(one["set_at"])) for one in found]
    render.table(("SECRET", "FINGERPRINT", "SET"), rows)


@command.command("rm")
@click.argument("name")
def rm(name: str) -> None:
    """Remove a secret."""
    connected().ask("DELETE", f"/secrets/{name}")
