"""The people's API as its own OpenAPI description has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from provisioner.app.clock import SystemClock
from provisioner.domain.policy import Policy
from provisioner.web.services import Services
from provisioner.web.sites import people_site

_METHODS = ("get", "post", "put", "delete", "head")


def described() -> Iterator[tuple[str, str, str]]:
    """(method, path, the first line of its description) of each route, by path."""
    nothing: Any = None  # routes are only described here, never called
    services = Services(
        store=nothing,
        desk=nothing,
        logs=nothing,
        objects=nothing,
        clock=SystemClock(),
        policy=Policy(),
        session_key=b"",
        status=nothing,
        shutdown=nothing,
        gc=nothing,
        hosting=nothing,
        registrar=nothing,
        ghosts=nothing,
        kinds=nothing,
    )
    site = people_site(services)
    for path, item in sorted(site.openapi()["paths"].items()):
        for method in _METHODS:
            if method in item:
                about = item[method].get("description") or item[method].get("summary", "")
                yield method.upper(), path, about.partition("\n")[0]
