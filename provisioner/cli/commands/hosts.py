"""`runner hosts`: computers that you have already, for machines that cost nothing extra."""

from __future__ import annotations

import json
import shlex
import subprocess
from urllib.parse import quote

import click

from provisioner.cli import render
from provisioner.cli.embedded import connected
from provisioner.cli.failures import CliError

# Run there as you: the controller's key is let in, and the host's own are told.
_ADMIT = (
    'umask 077; mkdir -p ~/.ssh && touch ~/.ssh/authorized_keys && { grep -qF "$0" ~/.ssh/authorized_keys || '
    'echo "$0 gpu-runner" >> ~/.ssh/authorized_keys; } && cat /etc/ssh/ssh_host_*_key.pub'
)
_NO = 255  # of ssh itself; every other code is the command's. Source: ssh(1).


@click.group()
def command() -> None:
    """Add, list and remove hosts of your own."""


@command.command("add")
@click.argument("login")
@click.option("--name", help="What to call it; its address if left out.")
@click.option("--gpu", default="auto", show_default=True, help="auto, none, or NAME[:COUNT].")
@click.option(
    "--slots", type=click.IntRange(1, 64), default=1, show_default=True, help="Machines at once, a user each."
)
@click.option("--usd-per-hour", default="0", show_default=True, help="What an hour of a slot is said to cost.")
@click.option("--folder", default="", help="Where machines are kept there.")
@click.option("--host-key", multiple=True, help="Its public host key; with it, your own SSH is not used.")
@click.option("--json", "as_json", is_flag=True)
def add(
    login: str,
    name: str | None,
    gpu: str,
    slots: int,
    usd_per_hour: str,
    folder: str,
    host_key: tuple[str, ...],
    as_json: bool,
) -> None:
    """Use the computer behind LOGIN, which is USER@HOST as your own `ssh` has it."""
    client = connected()
    where = _meant(login)
    keys = list(host_key) or _admitted(login, client.get("/hosts-key")["public_key"])
    name = name or where["hostname"]
    body = {
        "address": where["hostname"],
        "port": int(where["port"]),
        "user": where["user"],
        "host_keys": keys,
        "gpu": gpu,
        "slots": slots,
        "usd_per_hour": usd_per_hour,
        "folder": folder,
    }
    told = client.ask("PUT", f"/hosts/{quote(name, safe='')}", body)
    render.as_json(told) if as_json else print(f"{told['id']}: {_told(told)}")


@command.command("ls")
@click.option("--json", "as_json", is_flag=True)
def ls(as_json: bool) -> None:
    """List hosts, and whether they answer."""
    found = connected().get("/hosts")
    if as_json:
        render.as_json(found)
        return
    render.table(("HOST", "LOGIN", "HAS", "SLOTS"), [(h["id"], h["login"], _told(h), _slots(h)) for h in found])


@command.command("rm")
@click.argument("name")
@click.option("--force", is_flag=True, help="It is gone for good or was wiped: close what was on it, unconfirmed.")
def rm(name: str, force: bool) -> None:
    """Forget a host; its machines have to be gone first."""
    told = connected().ask("DELETE", f"/hosts/{quote(name, safe='')}{'?force=true' if force else ''}")
    if told["unconfirmed"]:
        left = ", ".join(told["unconfirmed"])
        render.say(f"closed unconfirmed: {left}; what may still run on {name} is left to its own limits")


@command.command("key")
def key() -> None:
    """Print the public key that hosts have to let in."""
    print(connected().get("/hosts-key")["public_key"])


def _meant(login: str) -> dict[str, str]:
    """What your SSH would do with it: host name, port, user."""
    if login.startswith("-"):
        raise CliError(f"not a login: {login!r}", "write USER@HOST", 2)
    done = _ssh("-G", login)
    if done.returncode:
        raise CliError(f"{login}: {_last(done)}", "write USER@HOST, or a name from ~/.ssh/config", 2)
    words = [line.split(" ", 1) for line in done.stdout.splitlines() if " " in line]
    return {word: value for word, value in words if word in ("hostname", "port", "user")}


def _admitted(login: str, public_key: str) -> list[str]:
    """Let the controller in, by your own SSH and what it knows of the host; the host's keys."""
    done = _ssh("-o", "BatchMode=yes", login, f"sh -c {shlex.quote(_ADMIT)} {shlex.quote(public_key)}")
    if done.returncode == _NO:
        hint = f"`ssh {login}` has to work without a question; or let `runner hosts key` in, and give --host-key"
        raise CliError(f"cannot log in to {login}: {_last(done)}", hint, 3)
    keys = [" ".join(line.split()[:2]) for line in done.stdout.splitlines() if line.startswith(("ssh-", "ecdsa-"))]
    if done.returncode or not keys:
        raise CliError(f"{login}: {_last(done)}", "its public host key can be given by --host-key", 3)
    return keys


def _ssh(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["ssh", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise CliError("there is no `ssh` here", "install OpenSSH's client", 3) from None


def _last(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"ssh: exit code {done.returncode}"


def _told(host: dict[str, object]) -> str:
    if host["trouble"]:
        return str(host["trouble"])
    gpu = f"{host['gpu']}, " if host["gpu"] else ""
    return f"{gpu}{host['cpus']} CPUs, {host['memory_gib']} GiB"


def _slots(host: dict[str, object]) -> str:
    return json.dumps(host["slots"]) if host["taken"] is None else f"{host['taken']} of {host['slots']} taken"
