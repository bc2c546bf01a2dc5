"""A word with the controller that may be running in a home, for those who work beside it."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any

from .home import Home


def step_down(home: Home) -> bool:
    """Ask an embedded controller to leave; false for a served one, which stays. One that is only starting, or is
    leaving, does not answer: then it is to be asked again."""
    status = ask(home.control_socket, "GET", "/api/v1/status")
    if status.get("embedded"):
        ask(home.control_socket, "POST", "/api/v1/shutdown", {"reason": "a served controller takes over"})
    return not status or bool(status.get("embedded"))


def ask(path: Path, method: str, route: str, body: dict[str, str] | None = None) -> dict[str, Any]:
    """One request to a socket in a home; empty when nobody answers."""
    connection = http.client.HTTPConnection("localhost", timeout=5)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(5)
    try:
        connection.sock.connect(str(path))
        connection.request(method, route, json.dumps(body or {}), {"Content-Type": "application/json"})
        answer: dict[str, Any] = json.loads(connection.getresponse().read() or b"{}")
        return answer
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    finally:
        connection.close()
