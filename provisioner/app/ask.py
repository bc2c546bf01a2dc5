"""A word with the controller that may be running in a home, for those who work beside it."""

from __future__ import annotations

import http.client
import json
import socket
import time
from pathlib import Path
from typing import Any

from .home import Home


def step_down(home: Path, patience_s: float = 15.0) -> None:
    """Ask a running embedded controller to leave; a served one is left alone, and the home's lock then says so."""
    path = Home(home).control_socket
    status = ask(path, "GET", "/api/v1/status")
    if not status.get("embedded"):
        return
    ask(path, "POST", "/api/v1/shutdown", {"reason": "a served controller takes over"})
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline and ask(path, "GET", "/api/v1/status"):
        time.sleep(0.05)


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
