"""`runner run`: submit a job, follow it, exit as it exits."""

from __future__ import annotations

import json
import os
import random
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from provisioner.cli import handover, jobfile, pack, render, resources
from provisioner.cli.attach import Attached
from provisioner.cli.client import Client
from provisioner.cli.embedded import connected
from provisioner.cli.failures import OURS, CliError
from provisioner.domain.ids import new_id

_SHORTEST_SECRET = 6
_OVER = ("setup", "name", "timeout", "idle_timeout", "max_lifetime", "retries", "log_limit")


@click.command(context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False})
@click.option("-f", "--file", "file", type=click.Path(path_type=Path), help="Read the job from a YAML file.")
@resources.options
@click.option("--idle-timeout", help="Keep the machine this long after its last job.")
@click.option("--max-lifetime", help="End the machine after this long, whatever it does.")
@click.option("--name", help="What to call the job.")
@click.option("--setup", help="Shell commands to run first; their time is measured apart.")
@click.option("--env", "env", multiple=True, metavar="NAME=VALUE", help="A variable for the job.")
@click.option("--secret", "secrets", multiple=True, metavar="NAME", help="From this environment, else from the store.")
@click.option("--output", "outputs", multiple=True, metavar="PATTERN", help="Files to bring back.")
@click.option("--input", "inputs", multiple=True, metavar="FROM=TO", help="Objects to bring in.")
@click.option("--checkpoint", metavar="FOLDER[:EVERY]", help="A folder to keep, and to start again from.")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter, kept in the record.")
@click.option("--retries", type=int, help="Try again this often after a failure.")
@click.option("--timeout", help="End the job after this long.")
@click.option("--log-limit", help="End the job when its log passes this size.")
@click.option("--tty", is_flag=True, help="Give the job a terminal.")
@click.option("--workdir", type=click.Path(path_type=Path), help="The folder to send (default: the current one).")
@click.option("--no-workdir", is_flag=True, help="Send no folder.")
@click.option("--large", is_flag=True, help="Allow more than 1 GiB of working directory.")
@click.option("--detach", is_flag=True, help="Leave the job running and return.")
@click.option("--json", "as_json", is_flag=True, help="Print the job as JSON, on the last line.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND...")
def command(**given: Any) -> int:
    """Run a command on a machine that exists for it."""
    spec = _spec(given)
    secrets = _secrets(spec)
    tree = None if given["no_workdir"] else pack.look(given["workdir"] or Path.cwd(), large=given["large"])
    client = connected()
    handing = handover.of_job(client, spec["need"])
    handing.begin(client)
    if tree is not None and (tree.files or tree.folders):
        spec["workspace"] = pack.send(client, tree)
    body = {"spec": spec, "secrets": secrets}
    return submit(client, "/jobs", body, handing, detach=given["detach"], as_json=given["as_json"])


def submit(
    client: Client, path: str, body: dict[str, Any], handing: handover.Handover, *, detach: bool, as_json: bool
) -> int:
    """Ask for the job and see it through. The id is made here, so that asking twice makes one job."""
    job_id = new_id("j", datetime.now(UTC), random.SystemRandom().getrandbits)
    attached = Attached(client, job_id, handing.again)
    if not detach:
        attached.listen()
    job = client.post(path, {"id": job_id, **body})
    if detach:
        if as_json:
            render.as_json(job)
        else:
            print(job["id"])
        if client.target.startswith("unix:"):
            hint = "after a reboot any command starts it again, `runner serve` keeps one for good"
            render.say(f"runner: {job['id']} goes on in the controller of this machine; {hint}")
        return 0
    try:
        code = attached.run()
    except CliError as error:
        raise CliError(error.line, f"{job_id} goes on: `runner logs -f {job_id}` shows it later", OURS) from error
    if as_json:  # one line, since the job's own output stands before it
        print(json.dumps(client.get(f"/jobs/{job_id}") | {"exit": code}))
    return code


def _spec(given: dict[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = jobfile.read(given["file"]) if given["file"] else {}
    asked = dict(merged.get("resources") or {}) if isinstance(merged.get("resources"), dict | None) else {}
    asked |= resources.asked(given)
    merged["resources"] = asked if asked else merged.get("resources")
    merged |= {key: given[key] for key in _OVER if given.get(key) is not None}
    if given["words"]:
        merged["run"] = list(given["words"])
    if given["tty"]:
        merged["tty"] = True
    for key in ("secrets", "outputs"):
        if given[key]:
            merged[key] = [*(merged.get(key) or []), *given[key]]
    for key in ("env", "params"):
        if given[key]:
            merged[key] = (merged.get(key) or {}) | dict(_pair(one, f"--{key}") for one in given[key])
    if given["inputs"]:
        pairs = [_pair(one, "--input") for one in given["inputs"]]
        merged["inputs"] = [*(merged.get("inputs") or []), *({"from": a, "to": b} for a, b in pairs)]
    if given["checkpoint"]:
        path, _, every = given["checkpoint"].partition(":")
        merged["checkpoint"] = {"path": path, **({"every": every} if every else {})}
    spec = jobfile.spec(merged)
    spec["shell_env"] = _shell()
    return spec


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise CliError(f"{option} {text!r} is not NAME=VALUE")
    return name, value


def _shell() -> dict[str, str]:
    """The caller's PATH and virtual environment, less the tool's own: a job never sees our Python."""
    own = {os.path.dirname(sys.executable), os.path.join(sys.prefix, "bin")} if sys.prefix != sys.base_prefix else set()
    path = [folder for folder in os.environ.get("PATH", "").split(":") if folder and folder not in own]
    shell = {"PATH": ":".join(path)}
    venv = os.environ.get("VIRTUAL_ENV", "")
    if venv and os.path.realpath(venv) != os.path.realpath(sys.prefix):
        shell["VIRTUAL_ENV"] = venv
    return shell


def _secrets(spec: dict[str, Any]) -> dict[str, str]:
    """Values from this environment; the store has the others, or the controller refuses."""
    found = {name: os.environ[name] for name in spec["secrets"] if name in os.environ}
    for name, value in found.items():
        if len(value) < _SHORTEST_SECRET:
            raise CliError(f"secret {name} is shorter than {_SHORTEST_SECRET} characters", "it could not be masked")
    return found
