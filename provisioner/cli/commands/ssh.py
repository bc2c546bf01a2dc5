"""`runner ssh`: a shell on a machine, by the way that its controller goes to it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import click

from provisioner.cli import arguments
from provisioner.cli.embedded import connected
from provisioner.cli.failures import CliError

_WHO = "machine"  # its name among known hosts: addresses are used again by others


@click.command(context_settings={"ignore_unknown_options": True})
@arguments.machine
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND...]")
def command(instance: str | None, words: tuple[str, ...]) -> int:
    """Log in to a machine, or run COMMAND there. Exits as `ssh` does."""
    if not instance:
        raise CliError("name a machine", "`runner machines` lists them")
    told = connected().post(f"/instances/{instance}/ssh")
    with tempfile.TemporaryDirectory(prefix="runner-ssh-") as name:
        folder = Path(name)
        _write(folder / "key", told["key"])
        _write(folder / "known_hosts", "".join(f"{_WHO} {key}\n" for key in told["host_keys"]))
        options = {
            "IdentityFile": folder / "key",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "UserKnownHostsFile": folder / "known_hosts",
            "GlobalKnownHostsFile": os.devnull,
            "HostKeyAlias": _WHO,
            "StrictHostKeyChecking": "yes",
            "LogLevel": "ERROR",
        }
        given = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        where = ["-F", os.devnull, "-p", str(told["port"]), "-l", told["user"], told["host"]]
        try:
            return subprocess.run(["ssh", *given, *where, *words], check=False).returncode
        except FileNotFoundError:
            raise CliError("there is no `ssh` here", "install OpenSSH's client", 3) from None


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
