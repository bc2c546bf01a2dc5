"""100 hosts over SSH from one controller, each brought its agent and held by a tunnel; and 1,000 tunnels.

All hosts are folders behind one real OpenSSH server of this computer, so the machine carries both ends: only the
controller's own memory and processor time are figures, the time until the last job has begun is for comparing.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from provisioner.bootstrap.shell import OpenSsh
from provisioner.bootstrap.tunnels import Tunnels
from provisioner.cli import jobfile
from provisioner.cli.client import Client
from provisioner.domain.errors import BootstrapError
from provisioner.domain.ids import new_id
from provisioner.domain.shell import Login, Session, Way
from tests.fakes import sshd

from .home import WithExtras, installed
from .measure import cpu_s, resident_mib, say

HOSTS = int(os.environ.get("BENCH_HOSTS", "100"))
TUNNELS = int(os.environ.get("BENCH_TUNNELS", "1000"))
_HELD_S = 30.0
_MORE = "MaxSessions 2000\nLoginGraceTime 600"


def main() -> None:
    if why := sshd.missing():
        print(f"skipped: {why}")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)
        with sshd.serving(folder / "sshd", more=_MORE, own_users=os.geteuid() == 0) as server:
            _hosts(server, folder)
            asyncio.run(_tunnels(server, folder))


def _hosts(server: sshd.Server, folder: Path) -> None:
    rows = [
        f"  - {{name: h{n}, address: 127.0.0.1, port: {server.port}, user: {server.user}, gpu: none, "
        f"folder: {folder}/h{n}, host_keys: ['{server.host_key}']}}"
        for n in range(HOSTS)
    ]
    settings = "\n".join([f"max_instances: {HOSTS}", "hosts:", *rows, ""])
    with installed(settings, WithExtras) as home:
        key = home.run("hosts", "key").stdout.decode()
        with (server.folder / "authorized").open("a") as file:
            file.write(key)
        (pid,) = home.pids("controller")
        client, began_s, began_cpu_s = Client(f"unix:{home.home}/control.sock"), time.monotonic(), cpu_s(pid)
        spec = jobfile.spec({"run": "sleep 3600", "resources": {"provider": ["hosts"]}})
        for _ in range(HOSTS):
            key = new_id("j", datetime.now(UTC), random.getrandbits)
            client.post("/jobs", {"id": key, "spec": spec, "secrets": {}})
        while sum(bool(job["started_at"]) for job in client.get("/jobs", limit=HOSTS)) < HOSTS:
            time.sleep(0.5)
        took_s, used_s = time.monotonic() - began_s, cpu_s(pid) - began_cpu_s
        say(
            f"{HOSTS} hosts over SSH, all at work after", f"{took_s:.0f} s, controller {used_s:.0f} s of processor", "-"
        )
        before_s = cpu_s(pid)
        time.sleep(_HELD_S)
        share = (cpu_s(pid) - before_s) / _HELD_S
        say("the controller then", f"{resident_mib(pid):.0f} MiB, {share:.0%} of a core", "300 MiB, one core")
        for job in client.get("/jobs"):
            client.post(f"/jobs/{job['id']}/cancel", {"now": True})
        while client.get("/instances"):
            time.sleep(0.5)


async def _tunnels(server: sshd.Server, folder: Path) -> None:
    login = Login("127.0.0.1", server.port, server.user, (server.host_key,), server.key)
    local = await asyncio.start_unix_server(_answer, str(folder / "agents.sock"))
    sockets = {f"i-{n}": str(folder / f"t{n}.sock") for n in range(TUNNELS)}

    async def wanted() -> dict[str, Way]:
        return {key: Way(login, path, _nothing) for key, path in sockets.items()}

    tunnels = Tunnels(OpenSsh(), str(folder / "agents.sock"), wanted, _told)
    began_s = time.monotonic()
    running = asyncio.create_task(tunnels.run())
    while len(tunnels.up) < TUNNELS:  # noqa: ASYNC110 (time is what it waits for)
        await asyncio.sleep(0.2)
    up_s = time.monotonic() - began_s
    answers = [await _ask(path) for path in sockets.values()]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    say(f"{TUNNELS} tunnels, all held after", f"{up_s:.0f} s, {sum(answers)} answer, {peak:.0f} MiB", f"{TUNNELS} held")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    local.close()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readline())
    writer.close()


async def _ask(path: str) -> bool:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"here\n")
    heard = await reader.readline()
    writer.close()
    return heard == b"here\n"


async def _nothing(session: Session) -> None:
    return


async def _told(key: str, error: BootstrapError | None) -> None:
    if error is not None:
        print(f"{key}: {error.message}")
