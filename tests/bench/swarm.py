"""5,000 idle agents against one real controller process: what it takes, and how late its answers are.

The agents are connections of this process, speaking HTTP as the agent does; their machines are rows and folders that
all show one sleeping process, so that the controller's own listing finds every one of them alive. A sync is held open
by the controller; what is measured is how much later than its own wait it answers.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from agent.wire import Join, Joined, Ought, Sync, decode, encode
from provisioner.domain.ids import instance_name, new_id
from provisioner.domain.job import NO_REASON, Instance, InstancePhase
from provisioner.domain.offer import Market, Offer
from provisioner.providers.local import processes
from provisioner.settings import secret_key
from provisioner.store.open import open_store

from .home import installed
from .measure import cpu_s, resident_mib, say

AGENTS = int(os.environ.get("BENCH_AGENTS", "5000"))
SETTLED_S, MEASURED_S = 30.0, 60.0
_OFFER = Offer("local", "local", "local", "this-host", Market.ON_DEMAND, Decimal(0), "none", "local", 1, 1.0, 1.0)


def main() -> None:
    with installed(f"max_instances: {AGENTS + 10}\n") as home:
        with subprocess.Popen(["sleep", "100000"]) as standin:
            try:
                ids = asyncio.run(_rows(home.home, standin.pid))
                home.json("ps")
                (pid,) = home.pids("controller")
                late_ms, share = asyncio.run(Swarm(home.home / "agents.sock", ids).measure(pid))
            finally:
                standin.kill()
        p50, p99 = (late_ms[int(len(late_ms) * part)] for part in (0.5, 0.99))
        used = f"{share:.0%} of a core, {resident_mib(pid):.0f} MiB"
        say(f"{AGENTS} idle agents, controller", used, "one core, 500 MiB")
        late = f"p50 {p50:.0f} ms, p99 {p99:.0f} ms"
        say(f"{len(late_ms)} syncs in {MEASURED_S:.0f} s, beyond the wait", late, "p99 100 ms")


async def _rows(home: Path, pid: int) -> list[str]:
    """Instances that are READY, each expecting to be joined, and the folders that show their machines."""
    store = await open_store(f"sqlite:///{home / 'runner.db'}", secret_key=secret_key(home, {}), home=home)
    controller, ids = await store.records.controller_id(), []
    for number in range(AGENTS):
        now = datetime.now(UTC)
        instance_id = new_id("ins", now, lambda bits, n=number: n & ((1 << bits) - 1))
        name = instance_name(instance_id)
        row = Instance(
            instance_id, name, "bench", InstancePhase.PLANNED, _OFFER, now, now, idle_timeout_s=1e6, max_lifetime_s=1e6
        )
        row = await store.instances.plan(
            row, max_instances=AGENTS, max_usd_per_hour=Decimal(1), reserve_usd_per_hour=Decimal(0)
        )
        _machine(home / "machines" / name, name, controller, pid)
        for phase in (InstancePhase.LAUNCHING, InstancePhase.BOOTING, InstancePhase.READY):
            launched = {"ref": name, "launched_at": now} if phase is InstancePhase.BOOTING else {}
            row = await store.instances.advance(row, phase, NO_REASON, now, **launched)
        await store.records.expect_join(instance_id, _sha256(f"jt_{instance_id}"), now + timedelta(hours=1))
        ids.append(instance_id)
    await store.close()
    return ids


def _machine(folder: Path, name: str, controller: str, pid: int) -> None:
    folder.mkdir(parents=True)
    born = processes.process(pid)
    assert born is not None
    expires_at = datetime.now(UTC) + timedelta(days=1)
    described = {
        "name": name,
        "controller": controller,
        "launched_at": datetime.now(UTC).isoformat(),
        "tags": {"expires-at": expires_at.isoformat()},
    }
    (folder / "machine.json").write_text(json.dumps(described))
    mark = {"pid": pid, "started": born.started, "boot_id": processes.boot_id()}
    (folder / "process.json").write_text(json.dumps(mark))


class Swarm:
    """The agents' side: all join, then sync for as long as the measurement takes."""

    def __init__(self, path: Path, ids: Sequence[str]) -> None:
        self._path, self._ids = path, ids
        self._gate = asyncio.Semaphore(50)
        self._missing = len(ids)
        self._all_joined = asyncio.Event()
        self._measuring = False
        self._late_ms: list[float] = []

    async def measure(self, pid: int) -> tuple[list[float], float]:
        """Milliseconds late of each sync, and the share of a core used. Raises: what an agent broke off with."""
        async with asyncio.TaskGroup() as group:
            agents = [group.create_task(self._agent(one)) for one in self._ids]
            await self._all_joined.wait()
            await asyncio.sleep(SETTLED_S)
            self._measuring = True
            before, began = cpu_s(pid), time.monotonic()
            await asyncio.sleep(MEASURED_S)
            share = (cpu_s(pid) - before) / (time.monotonic() - began)
            for agent in agents:
                agent.cancel()
        return sorted(self._late_ms), share

    async def _agent(self, instance_id: str) -> None:
        async with self._gate:
            reader, writer = await asyncio.open_unix_connection(os.fspath(self._path))
            join = Join(instance_id, f"jt_{instance_id}", f"nonce-{instance_id}", "boot")
            session = decode(Joined, await _post(reader, writer, "/agent/v1/join", encode(join), "")).session
        self._missing -= 1
        if not self._missing:
            self._all_joined.set()
        seen, wait_s = -1, 0.0
        while True:
            sync = Sync("boot", seen=seen, wait_s=wait_s, drained=True)
            began = time.perf_counter()
            ought = decode(Ought, await _post(reader, writer, "/agent/v1/sync", encode(sync), session))
            took_s = time.perf_counter() - began
            if self._measuring:
                self._late_ms.append((took_s - wait_s if took_s >= wait_s else took_s) * 1e3)
            seen, wait_s = ought.version, ought.poll_s


async def _post(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, route: str, body: bytes, session: str
) -> bytes:
    head = f"POST {route} HTTP/1.1\r\nHost: agents\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    writer.write(f"{head}Authorization: Bearer {session}\r\n\r\n".encode() + body)
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines if line)
    answer = await reader.readexactly(int(fields["content-length"]))
    if " 200 " not in status:
        raise RuntimeError(f"{route}: {status} {answer!r}")
    return answer


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
