"""Servers of this process on the loopback of other network namespaces, so that a host finds there what we find here."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading

_NEWNET = 0x40000000  # Source: sched.h, CLONE_NEWNET


def listening(netns: str, port: int) -> socket.socket:
    """At 127.0.0.1:`port` in the namespace of that name; whoever accepts from it stays where they are. Raises:
    OSError."""
    subprocess.run(["ip", "-n", netns, "link", "set", "lo", "up"], check=True, capture_output=True)
    made: list[socket.socket | OSError] = []

    def bind() -> None:
        """In a thread of its own, which alone is there, and ends there."""
        there = os.open(f"/run/netns/{netns}", os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(there, _NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"setns {netns}")
            made.append(socket.create_server(("127.0.0.1", port)))
        except OSError as error:
            made.append(error)
        finally:
            os.close(there)

    thread = threading.Thread(target=bind)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]
