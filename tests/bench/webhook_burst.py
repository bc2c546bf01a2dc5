"""1,600 webhooks in a minute over real HTTP: how long until a machine is planned for each, and until each is answered.

The controller's web, engine and SQLite store on disk are this process, with real time-outs, and read webhooks as for
GitHub: its own payloads, the signature over their bytes. Another process makes and signs them before it begins, and
sends one in three twice. Machines are launched on the simulated cloud and never come up, so that all of them are looked
at in every pass to the end. Runners are nobody's: the nth machine planned is set against the nth webhook.
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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import structlog

from provisioner.app import memory
from provisioner.app.clock import SystemClock
from provisioner.app.webhooks import expected
from provisioner.domain.demand import Webhooks
from provisioner.domain.forge import CiJob, Delivery, ForgeKind, Runner, Site, Software
from provisioner.domain.job import Instance
from provisioner.domain.policy import Policy
from provisioner.domain.pools import Pool
from provisioner.engine import Engine
from provisioner.forge_settings import ForgeSettings
from provisioner.forges.registry import known
from provisioner.objects import open_objects
from provisioner.store.logs import FileLogs
from provisioner.store.open import SqlStore, open_store
from provisioner.web.listen import Listener
from provisioner.web.services import Services
from provisioner.web.sites import people_site
from tests.fakes.github import shapes
from tests.fakes.github.state import Job, Run
from tests.fakes.hosting import FakeHosting
from tests.fakes.simcloud import Faults, SimCloud

from .measure import say

WEBHOOKS, SECONDS = int(os.environ.get("BENCH_WEBHOOKS", "1600")), 60.0
_A_RUN = 40  # jobs of one run
_LINES, _TWICE = 8, 3
_SECRET = b"the webhook's secret"
_BASE = "https://github.com"
_SITE = Site(ForgeKind("github"), _BASE, "acme")
_LABELS = ["self-hosted", "gpu"]


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
    say("webhook answered", _spread(answers), "1 s")


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


class _Noting:
    """The Webhooks port that a controller has; what it told of, `forge` shows when it is asked."""

    def __init__(self, hooks: Webhooks, forge: _Forge) -> None:
        self._hooks = hooks
        self._forge = forge

    def read(self, kind: str, name: str, headers: Mapping[str, str], body: bytes) -> Delivery:
        told = self._hooks.read(kind, name, headers, body)
        if told.job is not None:
            self._forge.jobs[told.job.id] = told.job
        return told


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
        pools=[Pool("gpu", (_SITE,), tuple(_LABELS), max=10**4)],
    )
    return engine, forge


def _services(store: SqlStore, engine: Engine, folder: Path, forge: _Forge) -> Services:
    async def collect(dry_run: bool, expired: bool) -> dict[str, Any]:
        return {}

    kinds = known()
    (folder / "secret").write_bytes(_SECRET)
    told = {"kind": "github", "url": _BASE, "webhook_secret_file": "secret"}
    hooks = expected([ForgeSettings.model_validate(told, context=kinds)], folder, kinds)
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
        kinds=kinds,
        webhooks=_Noting(hooks, forge),
        demand=engine.demand,
    )


@dataclass(frozen=True)
class _Webhook:
    """`counts`: a machine is to be planned for it."""

    due_s: float
    headers: Mapping[str, str]
    body: bytes
    counts: bool = False


def send(port: int) -> None:
    """What the other process does: at an even pace, over a few lines; when each began to be sent and took how long."""
    queue: SimpleQueue[tuple[float, _Webhook] | None] = SimpleQueue()
    began: list[float] = []
    answered: list[float] = []

    def line() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while (item := queue.get()) is not None:
            due, one = item
            connection.request("POST", "/hooks/github", one.body, dict(one.headers))
            connection.getresponse().read()
            answered.append(time.time() - due)
            if one.counts:
                began.append(due)

    lines = [Thread(target=line) for _ in range(_LINES)]
    for thread in lines:
        thread.start()
    made = list(_made())
    start = time.time()
    for one in made:
        time.sleep(max(0.0, start + one.due_s - time.time()))
        queue.put((time.time(), one))
    for _ in lines:
        queue.put(None)
    for thread in lines:
        thread.join()
    print(json.dumps({"began": began, "answered": answered}))


def _made() -> Iterator[_Webhook]:
    now = datetime.now(UTC)
    for number in range(WEBHOOKS):
        due_s, of = number * SECONDS / WEBHOOKS, number // _A_RUN
        repository = f"acme/r{of % 12}"
        run = Run(of, repository, repository, "main", "push", now)
        job = Job(number, of, 1, "train", _LABELS, now, now, 0.0)
        run.jobs[1] = [job]
        if number % _A_RUN == 0:
            yield _signed(
                due_s, "workflow_run", "completed", f"r{number}", run, {"workflow_run": shapes.run(run, _BASE)}
            )
        about = {"workflow_job": shapes.job(job, run, _BASE)}
        yield (one := _signed(due_s, "workflow_job", "queued", f"j{number}", run, about))
        if number % _TWICE == 0:
            yield replace(one, counts=False)


def _signed(due_s: float, event: str, action: str, number: str, run: Run, about: Mapping[str, Any]) -> _Webhook:
    schema = shapes.named(f"webhook-{event}-{action}".replace("_", "-"))
    repository = {"full_name": run.repository, "html_url": f"{_BASE}/{run.repository}"}
    body = json.dumps(shapes.complete(schema, {"action": action, "repository": repository, **about})).encode()
    signature = f"sha256={hmac.new(_SECRET, body, hashlib.sha256).hexdigest()}"
    headers = {"X-GitHub-Event": event, "X-GitHub-Delivery": number, "X-Hub-Signature-256": signature}
    return _Webhook(due_s, headers, body, counts=event == "workflow_job")


if __name__ == "__main__":
    send(int(sys.argv[1]))
