"""`runner token`: who may talk to a served controller."""

from __future__ import annotations

import click

from provisioner.cli import render
from provisioner.cli.amounts import duration
from provisioner.cli.embedded import connected


@click.group()
def command() -> None:
    """Make, list and remove tokens."""


@command.command("create")
@click.argument("name")
@click.option("--role", type=click.Choice(["admin", "user", "viewer"]), default="user", show_default=True)
@click.option("--expires", help="A duration; without it the token does not expire.")
@click.option("--json", "as_json", is_flag=True)
def create(name: str, role: str, expires: str | None, as_json: bool) -> None:
    """Make a token; it is shown once."""
    body = {"name": name, "role": role} | ({"expires_s": duration(expires, "--expires")} if expires else {})
    told = connected().post("/tokens", body)
    render.as_json(told) if as_json else print(told["token"])


@command.command("ls")
@click.option("--json", "as_json", is_flag=True)
def ls(as_json: bool) -> None:
    """List tokens, never their text."""
    found = connected().get("/tokens")
    if as_json:
        render.as_json(found)
        return
    rows = [(t["id"], t["name"], t["role"], render.ago(t["created_at"]), render.ago(t["last_used_at"])) for t in found]
    render.table(("TOKEN", "NAME", "ROLE", "CREATED", "USED"), rows)


@command.command("rm")
@click.argument("token_id")
def rm(token_id: str) -> None:
    """Remove a token."""
    connected().ask("DELETE", f"/tokens/{token_id}")
