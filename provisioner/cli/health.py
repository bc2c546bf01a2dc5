"""What a controller says of its own health, for those who would otherwise wonder why nothing happens."""

from __future__ import annotations

import json
from typing import Any

from . import render
from .client import Client


def look(client: Client) -> dict[str, Any]:
    """Whether it is well or not. Raises: CliError where nobody answers."""
    try:
        found = json.loads(client.open("GET", "/healthz").read())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def say_paused(client: Client, so: str = "") -> None:
    """A line for each provider that takes no launches now, which is `so`, and for each forge's site."""
    for name, why in (look(client).get("paused") or {}).items():
        render.say(f"runner: {why}{f' ({so})' if so and '://' not in name else ''}")
