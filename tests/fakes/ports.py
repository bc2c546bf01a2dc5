"""Ports of this computer, for servers that tests start."""

from __future__ import annotations

import socket
import time


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listening(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def until_listening(port: int, host: str = "127.0.0.1", timeout_s: float = 20.0) -> None:
    """Raises: TimeoutError when nothing does."""
    deadline = time.monotonic() + timeout_s
    while not listening(port, host):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing listens on {host}:{port}")
        time.sleep(0.01)
