"""A runner's own last word to its forge: its record is not needed any more. In: its own token, and no one else's."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

_TIMEOUT_S = 3.0  # arbitrary: its machine is about to end, and does not wait for long
_UNKNOWN = 403  # what is said of a token that is no runner's, or no runner's any more


def say_farewell(url: str, token: str) -> str:
    """What came of it, for the record; nothing is raised. In JSON, as GitLab's own runner program says it.
    Source: GitLab, "Delete a runner by authentication token", and gitlab-runner, network/gitlab.go, 2026."""
    body = json.dumps({"token": token}).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"}, method="DELETE")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S):
            return "removed"
    except urllib.error.HTTPError as error:
        return "not known there" if error.code == _UNKNOWN else f"refused: {error.code}"
    except (OSError, ValueError) as error:
        return f"not reached: {type(error).__name__}"
