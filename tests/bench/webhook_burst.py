"""1,600 webhooks in a minute over real HTTP: how long until a machine is planned for each, and until each is answered.

The controller's web, engine and SQLite store on disk are this process, with real time-outs; another process signs and
sends, one webhook in three twice. Machines are launched on the simulated cloud and never come up, so that all of them
are looked at in every pass to the end. Runners are nobody's: the nth machine planned is set against the nth webhook.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import structlog

from provisioner.app import memory
from provisioner.app.clock import SystemClock
from provisioner.app.webhooks import ForgeWebhooks, Hook
from provisioner.domain.errors import ForgeUnauthorized
from provisioner.domain.forge import CiJob, CiJobState, Delivery, ForgeKind, Runner, Site, Software
from provisioner.domain.job import Instance
from provisioner.domain.policy import Policy
from provisioner.domain.pools import Pool
from provisioner.engine import Engine
from provisioner.forges.registry import known
from provisioner.objects import open_objects
from provisioner.store.logs import FileLogs
from provisioner.store.open import SqlStore, open_store
from provisioner.web.listen import Listener
from provisioner.web.services import Services
from provisioner.web.sites import people_site
from tests.fakes.hosting import FakeHosting
from tests.fakes.simcloud import Faults, SimCloud

from .measure import say

WEBHOOKS, SECONDS = int(os.environ.get("BENCH_WEBHOOKS", "1600")), 60.0
_A_RUN = 40  # jobs of one run
_LINES, _TWICE = 8, 3
_SECRET = b"the webhook's secret"
_BASE = "https://github.com"
_SITE = Site(ForgeKind("github"), _BASE, "acme")


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    asyncio.run(_measure())


async def _measure() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = await open_store(f"sqlite:///{folder / 'runner.db'}", secret_key=b"k" * 32, home=folder)
        engine, forge = _engine(store)
        listener = await Listener.tcp(people_site(_services(store, engine, folder, forge)), "127.0.0.1", 0)
        tasks = [asyncio.create_task(engine.run()), asyncio.create_task(engine.demand.run())]
        await asyncio.sleep(2)
        memory.settle()
        used_s = time.process_time()
        sent = await _sent(listener.port)
        for _ in range(300):
            planned = sorted(one.created_at.timestamp() for one in await store.instances.find())
            if len(planned) >= WEBHOOKS or any(task.done() for task in tasks):
                break
            await asyncio.sleep(0.1)
        used_s = time.process_time() - used_s
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.close()
        await store.close()
    _tell(sent, planned)
    say("the controller's processor time", f"{used_s:.1f} s")


def _tell(sent: Mapping[str, list[float]], planned: Sequence[float]) -> None:
    late = sorted(at - began for began, at in zip(sorted(sent["began"]), planned, strict=False))
    answers = sorted(sent["answered"])
    say(f"{WEBHOOKS} jobs queued in {SECONDS:.0f} s, machines planned", str(len(planned)), str(WEBHOOKS))
    say("webhook to planned machine", _spread(late), "p50 0.3 s, p99 1 s")
    say("webhook to its answer", _spread(answers), "1 s")


def _spread(values: Sequence[float]) -> str:
    p50, p99 = (values[min(len(values) - 1, int(len(values) * part))] for part in (0.5, 0.99))
    return f"p50 {p50:.2f} s, p99 {p99:.2f} s, longest {values[-1]:.2f} s"


async def _sent(port: int) -> dict[str, list[float]]:
    words = [sys.executable, "-m", "tests.bench.webhook_burst", str(port)]
    running = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE)
    out, _ = await running.communicate()
    told: dict[str, list[float]] = json.loads(out)
    return told


class _Forge:
    """Shows what it was told of, and has no runners yet."""

    kind = ForgeKind("github")
    visibility_s = 30.0

    def __init__(self) -> None:
        self.jobs: dict[str, CiJob] = {}

    def of(self, site: Site) -> Any:
        return self

    def preinstalled(self, site: Site) -> tuple[str, ...]:
        return ()

    async def runners(self, site: Site) -> Sequence[Runner]:
        return []

    async def software(self, site: Site, system: str, machine: str) -> Software:
        return Software("actions-runner", "2.330.0", "https://github.com/runner", "ab" * 32)

    async def queued(self, site: Site) -> Sequence[CiJob]:
        return [replace(job, fork=False) for job in self.jobs.values()]

    async def job(self, site: Site, repository: str, job_id: str) -> CiJob | None:
        await asyncio.sleep(0.1)
        return replace(self.jobs[job_id], fork=False)

    def read(self, headers: Mapping[str, str], body: bytes) -> Delivery:
        if not hmac.compare_digest(headers.get("x-hub-signature-256", "").encode(), _signature(body).encode()):
            raise ForgeUnauthorized("forged")
        told = json.loads(body)
        if told["event"] == "workflow_run":
            return Delivery(headers["x-github-delivery"], "workflow_run", None, told["facts"])
        site = Site(ForgeKind("github"), _BASE, told["repository"])
        at = datetime.fromtimestamp(told["at"], UTC)
        job = CiJob(told["id"], site, told["repository"], CiJobState.QUEUED, ("gpu",), at, run_id=told["run"])
        self.jobs[job.id] = job
        return Delivery(headers["x-github-delivery"], "workflow_job", job)


def _engine(store: SqlStore) -> tuple[Engine, _Forge]:
    async def config(instance: Instance) -> str:
        return "{}"

    forge = _Forge()
    engine = Engine(
        store=store,
        providers={"sim": SimCloud(SystemClock(), random.Random(1), faults=Faults.none())},
        clock=SystemClock(),
        policy=replace(Policy(), max_instances=10**6, max_usd_per_hour=Decimal(10**6)),
        rng=random.Random(3),
        config_for=config,
        holder="bench",
        default_providers=("sim",),
        forges=forge,
        pools=[Pool("gpu", (_SITE,), ("self-hosted", "gpu"), max=10**4)],
    )
    return engine, forge


def _services(store: SqlStore, engine: Engine, folder: Path, forge: _Forge) -> Services:
    async def collect(dry_run: bool, expired: bool) -> dict[str, Any]:
        return {}

    return Services(
        store=store,
        desk=engine.desk,
        logs=FileLogs(folder / "logs"),
        objects=open_objects(str(folder / "objects")),
        clock=SystemClock(),
        policy=Policy(),
        session_key=b"k" * 32,
        status=dict,
        shutdown=lambda why: None,
        gc=collect,
        hosting=FakeHosting(),
        registrar=engine.runners,
        ghosts=engine.runners.sites.ghosts,
        kinds=known(),
        webhooks=ForgeWebhooks({("github", ""): Hook(_SITE, forge.read)}),
        demand=engine.demand,
    )


def _signature(body: bytes) -> str:
    return f"sha256={hmac.new(_SECRET, body, hashlib.sha256).hexdigest()}"


def send(port: int) -> None:
    """What the other process does: at an even pace, over a few lines; when each began to be sent and took how long."""
    queue: SimpleQueue[tuple[float, str, bytes, bool] | None] = SimpleQueue()
    began: list[float] = []
    answered: list[float] = []

    def line() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while (item := queue.get()) is not None:
            due, number, body, counts = item
            headers = {"X-Hub-Signature-256": _signature(body), "X-GitHub-Delivery": number}
            connection.request("POST", "/hooks/github", body, headers)
            connection.getresponse().read()
            answered.append(time.time() - due)
            if counts:
                began.append(due)

    lines = [Thread(target=line) for _ in range(_LINES)]
    for one in lines:
        one.start()
    start = time.time()
    for number in range(WEBHOOKS):
        time.sleep(max(0.0, start + number * SECONDS / WEBHOOKS - time.time()))
        run, repository = str(number // _A_RUN), f"acme/r{number // _A_RUN % 12}"
        if number % _A_RUN == 0:
            facts = {"id": run, "repository": repository, "fork": "no"}
            told = json.dumps({"event": "workflow_run", "facts": facts}).encode()
            queue.put((time.time(), f"r{number}", told, False))
        job = {"event": "workflow_job", "id": str(number), "repository": repository, "run": run, "at": time.time()}
        body = json.dumps(job).encode()
        queue.put((time.time(), f"j{number}", body, True))
        if number % _TWICE == 0:
            queue.put((time.time(), f"j{number}", body, False))
    for _ in lines:
        queue.put(None)
    for one in lines:
        one.join()
    print(json.dumps({"began": began, "answered": answered}))


if __name__ == "__main__":
    send(int(sys.argv[1]))
