"""An SSH server on paramiko: an implementation that shares nothing with OpenSSH's or with the one that we use.

It runs commands; it joins no Unix sockets, which is OpenSSH's own.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import paramiko

from .sshd import new_key


@dataclass
class Server:
    port: int
    key: str
    host_key: str


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """For one user key."""
    folder.mkdir(parents=True)
    host_key = new_key(folder / "host")
    new_key(folder / "mine")
    listener = socket.create_server(("127.0.0.1", 0))
    living: list[paramiko.Transport] = []
    admitted = paramiko.Ed25519Key.from_private_key_file(str(folder / "mine"))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(connection)
            transport.add_server_key(paramiko.Ed25519Key.from_private_key_file(str(folder / "host")))
            living.append(transport)
            with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                transport.start_server(server=_Session(transport, admitted))

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield Server(listener.getsockname()[1], (folder / "mine").read_text(), host_key)
    finally:
        listener.close()
        for transport in living:
            transport.close()


class _Session(paramiko.ServerInterface):
    def __init__(self, transport: paramiko.Transport, admitted: paramiko.PKey) -> None:
        self._transport = transport
        self._admitted = admitted

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_SUCCESSFUL if key == self._admitted else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED if kind == "session" else paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self._run, args=(channel, command), daemon=True).start()
        return True

    def _run(self, channel: paramiko.Channel, command: bytes) -> None:
        running = subprocess.Popen(
            ["sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        data = b""
        while part := channel.recv(65536):
            data += part
        out, err = running.communicate(data)
        with contextlib.suppress(OSError):
            channel.sendall(out)
            channel.sendall_stderr(err)
            channel.send_exit_status(running.returncode)
            channel.close()
