"""The options that say what machine is wanted, for every command that rents one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from . import jobfile

_OPTIONS = (
    click.option("--gpu", help="NAME[:COUNT], '>=24GB' or 'compute>=8.0'."),
    click.option("--cpus", help="At least this many, such as 8+."),
    click.option("--memory", help="At least this many GiB, such as 32+."),
    click.option("--disk", help="At least this many GiB."),
    click.option("--spot", "market", flag_value="spot", help="Spot machines only."),
    click.option("--on-demand", "market", flag_value="on-demand", help="On-demand machines only."),
    click.option("--spot-first", "market", flag_value="spot-first", help="Spot, then on-demand (the default)."),
    click.option("--provider", help="Where to rent; clouds are used only when named."),
    click.option("--region", help="Only in this region."),
    click.option("--instance-type", help="Only this type."),
    click.option("--max-price", help="USD per hour at most."),
    click.option("--image", help="The machine's image."),
)


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def asked(given: dict[str, Any]) -> dict[str, Any]:
    """Those that were given, as a job file has them."""
    return {key: given[key] for key in jobfile.RESOURCES if given.get(key)}
