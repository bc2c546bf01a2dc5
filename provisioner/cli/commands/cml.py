"""`runner cml runner launch`: CML's command as it is written in workflows, in our words.

One table says what becomes of each flag; what means something else here is refused, with what to write instead. The
table in docs/how-to/from-cml.md is made of it.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from provisioner import app
from provisioner.cli import render
from provisioner.cli.failures import CliError

Words = Callable[[str, Mapping[str, str]], list[str]]

# Source: CML, bin/cml/runner/launch.js, 2024: its defaults.
_LABELS, _IDLE, _REGION, _TYPE, _DISK = "cml", "5 minutes", "us-west", "m", "35"
# What GitHub's own program added to them, and JIT runners do not have.
_ADDED = "self-hosted,linux,x64"
_REGIONS = {"us-east": "us-east-1", "us-west": "us-west-1", "eu-west": "eu-west-1", "eu-north": "eu-north-1"}
# Source: TPI, aws/resource_launch_template.go, 2024, less the rows of machines that EC2 does not have.
_MACHINES = {
    ("s", ""): "t2.micro",
    ("m", ""): "m5.2xlarge",
    ("l", ""): "m5.8xlarge",
    ("xl", ""): "m5.16xlarge",
    ("m", "t4"): "g4dn.xlarge",
    ("l", "v100"): "p3.8xlarge",
    ("xl", "v100"): "p3.16xlarge",
}
_NO_GPU = ("", "nogpu", "none")
_TIMES = re.compile(
    r"(\d+(?:\.\d+)?)\s*(s|sec|secs|second|seconds|m|min|mins|minute|minutes|h|hr|hrs|hour|hours|d|days?)?"
)


@dataclass(frozen=True)
class Flag:
    """`ours` is what to write; `note` what is different. `to` makes our words of its value, given all others; without
    it the flag is refused. `default`: what CML takes when it is not given. `many`: it may be repeated."""

    name: str
    ours: str
    note: str = ""
    to: Words | None = None
    default: str = ""
    switch: bool = False
    many: bool = False
    everywhere: bool = False

    @property
    def key(self) -> str:
        return self.name.lstrip("-").replace("-", "_")

    @property
    def variable(self) -> str:
        return ("CML_" if self.everywhere else "CML_RUNNER_") + self.key.upper()


def _as(option: str) -> Words:
    return lambda value, given: [option, value] if value else []


def _nothing(value: str, given: Mapping[str, str]) -> list[str]:
    return []


def _labels(value: str, given: Mapping[str, str]) -> list[str]:
    return ["--labels", f"{value},{_ADDED}"]


def _idle(value: str, given: Mapping[str, str]) -> list[str]:
    found = _TIMES.fullmatch(value.strip().lower())
    if found is None:
        raise CliError(
            f"--idle-timeout {value}: every machine has an end here", "write a time, such as --idle-timeout 1h"
        )
    return ["--idle-timeout", f"{found[1]}{(found[2] or 's')[0]}"]


def _jobs(value: str, given: Mapping[str, str]) -> list[str]:
    return ["--jobs", "one" if value else "many"]


def _provider(value: str, given: Mapping[str, str]) -> list[str]:
    if value not in ("", "aws"):
        raise CliError(
            f"--cloud {value}: there is no such provider here", "write --provider, with aws or one of your own"
        )
    return ["--provider", value or "local"]


def _region(value: str, given: Mapping[str, str]) -> list[str]:
    if not given["cloud"]:
        return []
    if re.fullmatch(r"[a-z]+(-[a-z]+)+-\d[a-z]", value):
        raise CliError(f"--cloud-region {value} is a zone", f"write --region {value[:-1]}; zones are tried in turn")
    return ["--region", _REGIONS.get(value, value)]


def _machine(value: str, given: Mapping[str, str]) -> list[str]:
    if not given["cloud"]:
        return []
    gpu = given["cloud_gpu"].lower()
    gpu = "" if gpu in _NO_GPU else "v100" if gpu == "tesla" else gpu
    if value not in ("s", "m", "l", "xl"):
        return ["--instance-type", value, *(["--gpu", gpu.upper()] if gpu else [])]
    if (value, gpu) == ("m", "v100"):
        return ["--gpu", "V100"]  # its p3.xlarge does not exist
    if (value, gpu) not in _MACHINES:
        raise CliError(f"--cloud-type {value} with --cloud-gpu {gpu or 'none'} is no machine", _instead(gpu))
    return ["--instance-type", _MACHINES[value, gpu]]


def _instead(gpu: str) -> str:
    return "K80s are past their support: write --gpu T4" if gpu == "k80" else f"write --gpu {gpu.upper()}, and no type"


def _market(value: str, given: Mapping[str, str]) -> list[str]:
    return (["--spot"] if value else ["--on-demand"]) if given["cloud"] else []


def _price(value: str, given: Mapping[str, str]) -> list[str]:
    return ["--max-price", value] if value and not value.startswith("-") else []


def _disk(value: str, given: Mapping[str, str]) -> list[str]:
    return ["--disk", value] if given["cloud"] else []


def _forge(value: str, given: Mapping[str, str]) -> list[str]:
    known = [str(one.kind) for one in app.forge_kinds()]
    if value and value not in known:
        raise CliError(f"--driver {value}: it is no forge here", f"{', '.join(known[:-1])} and {known[-1]} are")
    return ["--forge", value] if value else []


_RETRY = "0 in the controller's settings: no job is run again; without a controller none is"
_SETTING = "settings of the controller, for all of its machines"
FLAGS = (
    Flag(
        "--labels",
        "`--labels`",
        f"`{_ADDED}` are added, as GitHub's program did, and the run's own label",
        _labels,
        _LABELS,
    ),
    Flag("--idle-timeout", "`--idle-timeout`", "`never` is refused", _idle, _IDLE),
    Flag("--name", "`--name`", "what the launch is called; runners are named after their machines", _as("--name")),
    Flag("--no-retry", "`policy.reruns_most`", _RETRY, switch=True),
    Flag("--single", "`--jobs one`", "which is the default; CML's, without it, is `--jobs many`", _jobs, switch=True),
    Flag("--reuse", "", "a step that is tried again finds its runners; to share them, `--jobs many`", switch=True),
    Flag("--reuse-idle", "", "as `--reuse`", switch=True),
    Flag("--docker-volumes", "", "jobs run on the machine itself", many=True),
    Flag("--cloud", "`--provider`", "`aws`; none is `local`", _provider),
    Flag("--cloud-region", "`--region`", "`us-east` and the like are AWS's first of that name", _region, _REGION),
    Flag(
        "--cloud-type",
        "`--gpu`, `--cpus`, `--memory`",
        "or `--instance-type`, which `m`, `l`, `xl` become",
        _machine,
        _TYPE,
    ),
    Flag("--cloud-gpu", "`--gpu`", "a name that no type has is refused, and no CPU machine is rented for it", _nothing),
    Flag("--cloud-hdd-size", "`--disk`", "", _disk, _DISK),
    Flag("--cloud-spot", "`--spot`", "CML's default is `--on-demand`; ours is `--spot-first`", _market, switch=True),
    Flag("--cloud-spot-price", "`--max-price`", "", _price),
    Flag("--cloud-permission-set", "`aws.instance_profile`", _SETTING),
    Flag("--cloud-metadata", "", "machines have tags of ours, by which they are found again", many=True),
    Flag("--cloud-startup-script", "`aws.startup`", f"{_SETTING}; as plain text"),
    Flag("--cloud-ssh-private", "`runner ssh`", "logs in without it"),
    Flag("--cloud-aws-security-group", "`aws.security_groups`", _SETTING),
    Flag("--cloud-aws-subnet", "`aws.subnets`", _SETTING),
    Flag("--cloud-aws-subnet-id", "`aws.subnets`", _SETTING),
    Flag("--cloud-kubernetes-node-selector", "", "there is no Kubernetes here", many=True),
    Flag("--cloud-image", "`--image`", "", _as("--image")),
    Flag("--workdir", "", "nothing is left on the CI's machine"),
    Flag("--path", "", "as `--workdir`, whose other name it is"),
    Flag("--tpi-version", "", "there is no Terraform provider"),
    Flag("--cml-version", "", "there is no CML on the machine"),
    Flag("--tf-resource", "", "machines end without it"),
    Flag("--destroy-delay", "", "a machine ends when its log is safe"),
    Flag("--gcp-access-token", "", "there is no Google Cloud here, and no secret on a command line"),
    Flag("--runner-path", "", "the forge's program is fetched, or found where a forge's `preinstalled` says"),
    Flag("--repo", "`--repo`", "", _as("--repo"), everywhere=True),
    Flag("--driver", "`--forge`", "needed only where the host does not tell", _forge, everywhere=True),
    Flag("--token", "`RUNNER_FORGE_TOKEN`", "no secret on a command line; `REPO_TOKEN` is taken", everywhere=True),
    Flag("--driver-token", "`RUNNER_FORGE_TOKEN`", "as `--token`", everywhere=True),
    Flag("--log", "", "nothing to write: what happens is said", _nothing, everywhere=True),
)
# What CML's other commands are here, or why there is none.
COMMANDS = {
    "comment": "`runner comment create` and `runner comment update`",
    "asset": "`runner comment create --publish`",
    "check": "`runner report --post`, which posts a check, too",
    "pr": "nothing: open it with your forge's own action",
    "workflow": "nothing: run it again at your forge",
    "repo": "nothing: your forge's own checkout action",
    "tensorboard": "nothing: TensorBoard.dev has ended",
}


def translated(given: Mapping[str, str]) -> list[str]:
    """The words after `runner launch`. `given` has a text for each flag by its key. Raises: CliError."""
    every = {flag.key: given.get(flag.key) or flag.default for flag in FLAGS}
    words: list[str] = []
    for flag in FLAGS:
        if flag.to is not None:
            words += flag.to(every[flag.key], every)
        elif every[flag.key]:
            what = f"use {flag.ours.replace('`', '')} ({flag.note})" if flag.ours else flag.note
            raise CliError(f"{flag.name} is not taken here", what)
    return words


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    for flag in reversed(FLAGS):
        about = f"{flag.ours.replace('`', '')}: {flag.note}".strip(": ").replace("`", "") or "The same."
        made = click.option(
            flag.name, flag.key, is_flag=flag.switch, multiple=flag.many, envvar=flag.variable, help=about
        )
        command = made(command)
    return command


@click.group()
def command() -> None:
    """Take CML's commands as they are written, and say what they are here."""


@command.group()
def runner() -> None:
    """CML's runners."""


@runner.command()
@_options
def launch(**given: Any) -> int:
    """What `cml runner launch` would have launched, by `runner launch`."""
    from .launch import command as ours

    texts = {key: _text(value) for key, value in given.items()}
    words = translated(texts)
    for name in ("REPO_TOKEN", "repo_token"):
        if os.environ.get(name) and not os.environ.get("RUNNER_FORGE_TOKEN"):
            os.environ["RUNNER_FORGE_TOKEN"] = os.environ[name]
    render.say(f"runner: the same as: runner launch {shlex.join(words)}")
    code = ours.main(args=words, prog_name="runner launch", standalone_mode=False)
    return code if isinstance(code, int) else 0


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value or "")


def _refusing(name: str) -> click.Command:
    @click.command(name, hidden=True, context_settings={"ignore_unknown_options": True, "help_option_names": []})
    @click.argument("words", nargs=-1, type=click.UNPROCESSED)
    def refuse(words: tuple[str, ...]) -> None:
        raise CliError(f"cml {name} is not taken here", f"it is {COMMANDS[name].replace('`', '')}")

    return refuse


for _name in COMMANDS:
    command.add_command(_refusing(_name))
