"""Who a CI job is to a served controller: its forge's own word for it, exchanged for a session. Nothing that lasts.

GitHub gives a token for whatever audience is asked for; GitLab puts one that the job's `id_tokens` names into a
variable.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable

from .client import Client
from .failures import REFUSED, CliError, Unreachable

VARIABLE = "RUNNER_ID_TOKEN"
_TIMEOUT_S = 30.0


def renewal(server: str, ca: str) -> Callable[[], str] | None:
    """What gives a session whenever one is needed; None outside of CI."""
    if not (os.environ.get("GITHUB_ACTIONS") == "true" or os.environ.get(VARIABLE)):
        return None

    def renew() -> str:
        client = Client(server, ca=ca)
        try:
            token: str = client.post("/oidc", {"token": _own_token(server)})["token"]
        finally:
            client.close()
        return token

    return renew


def _own_token(server: str) -> str:
    """Raises: CliError, Unreachable."""
    if given := os.environ.get(VARIABLE, "").strip():
        return given
    url, bearer = (os.environ.get(f"ACTIONS_ID_TOKEN_REQUEST_{name}", "") for name in ("URL", "TOKEN"))
    if not url or not bearer:
        hint = "give the job `permissions: id-token: write` (a fork's pull request cannot have it), or set RUNNER_TOKEN"
        raise CliError("this CI job has no identity to show to RUNNER_SERVER", hint, REFUSED)
    audience = urllib.parse.quote(server.rstrip("/"), safe="")
    request = urllib.request.Request(f"{url}&audience={audience}", headers={"Authorization": f"bearer {bearer}"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            value = json.loads(answer.read()).get("value")
    except (OSError, ValueError, AttributeError) as error:
        why = f"{error.code}" if isinstance(error, urllib.error.HTTPError) else type(error).__name__
        raise Unreachable(f"the forge gave no identity token: {why}", "try the step again") from error
    if not isinstance(value, str):
        raise CliError("the forge gave no identity token", "try the step again", REFUSED)
    return value
