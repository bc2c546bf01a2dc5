"""A runner's own last word to its forge: its record is not needed any more. In: its own token, and no one else's."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

_TIMEOUT_S = 3.0  # arbitrary: its machine is about to end, and does not wait for long
_GONE = (403, 404)  # what is said of a token whose runner is no more


def say_farewell(url: str, token: str) -> str:
    """What came of it, for the record; nothing is raised. Source: GitLab, "Delete a runner by authentication token"."""
    body = json.dumps({"token": token}).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"}, method="DELETE")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S):
            return "removed"
    except urllib.error.HTTPError as error:
        return "removed before" if error.code in _GONE else f"refused: {error.code}"
    except (OSError, ValueError) as error:
        return f"not reached: {type(error).__name__}"
