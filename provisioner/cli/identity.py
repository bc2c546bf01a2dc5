"""Who a CI job is to a served controller: its forge's own word for it, exchanged for a session. Nothing that lasts.

Some forges give a job a token for whatever audience it asks for; others put one into a variable of the job's choice.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable

from provisioner import app
from provisioner.domain.kinds import IdTokenAddress

from .client import Client
from .failures import REFUSED, CliError, Unreachable

VARIABLE = "RUNNER_ID_TOKEN"
_TIMEOUT_S = 30.0


def renewal(server: str, ca: str) -> Callable[[], str] | None:
    """What gives a session whenever one is needed; None outside of CI."""
    if not (_asked(server) or os.environ.get(VARIABLE)):
        return None

    def renew() -> str:
        client = Client(server, ca=ca)
        try:
            token: str = client.post("/oidc", {"token": _own_token(_asked(server))})["token"]
        finally:
            client.close()
        return token

    return renew


def _asked(server: str) -> IdTokenAddress | None:
    return app.forge_kinds().id_token(os.environ, server.rstrip("/"))


def _own_token(asked: IdTokenAddress | None) -> str:
    """Raises: CliError, Unreachable."""
    if given := os.environ.get(VARIABLE, "").strip():
        return given
    if asked is None or not (asked.url and asked.bearer):
        hint = asked.hint if asked is not None else f"set {VARIABLE}, or RUNNER_TOKEN"
        raise CliError("this CI job has no identity to show to RUNNER_SERVER", hint, REFUSED)
    request = urllib.request.Request(asked.url, headers={"Authorization": f"bearer {asked.bearer}"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            value = json.loads(answer.read()).get("value")
    except (OSError, ValueError, AttributeError) as error:
        why = f"{error.code}" if isinstance(error, urllib.error.HTTPError) else type(error).__name__
        raise Unreachable(f"the forge gave no identity token: {why}", "try the step again") from error
    if not isinstance(value, str):
        raise CliError("the forge gave no identity token", "try the step again", REFUSED)
    return value
