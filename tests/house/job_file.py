"""The job file's keys, from the table by which the command line reads one, and what each key may hold inside."""

from __future__ import annotations

from collections.abc import Iterator

from provisioner.cli.jobfile import KEYS, RESOURCES

# What a resource means. The file's reader has the names; a name without a line here fails a test.
_RESOURCES = {
    "gpu": "`NAME`, `NAME:COUNT`, or a property such as `'>=24GB'`",
    "cpus": "at least so many",
    "memory": "at least so many GiB",
    "disk": "at least so many GiB",
    "market": "`spot`, `on-demand`, or `spot-first` (the default)",
    "provider": "one name or a list; a cloud is used only when it is named",
    "region": "one name or a list",
    "instance_type": "exactly this one",
    "max_price": "USD an hour that a machine may cost at most",
    "image": "the machine's image",
}


def keys() -> Iterator[tuple[str, str]]:
    return ((f"`{name}`", about) for name, about in KEYS.items())


def resources() -> Iterator[tuple[str, str]]:
    return ((f"`{name}`", _RESOURCES[name]) for name in RESOURCES)
