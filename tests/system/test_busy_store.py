"""Webhooks while the store has more to do than it gets done: a forge, which waits ten seconds, is answered in one."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.client
import json
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest

from provisioner.app.clock import SystemClock
from provisioner.app.webhooks import expected
from provisioner.domain.forge import ForgeKind, Site
from provisioner.domain.pools import Pool
from provisioner.engine import Engine
from provisioner.forge_settings import ForgeSettings
from provisioner.forges.registry import known
from provisioner.store.open import SqlStore
from tests.fakes.an_engine import an_engine
from tests.unit.web.served import Served, serve

WEBHOOKS, LINES, WITHIN_S = 200, 6, 1.0
SECRET = b"the webhook's secret"
HUB = "https://github.com"
BACKLOG, EACH_S = 300, 0.006


@pytest.mark.system
async def test_each_of_a_burst_is_answered_within_a_second_however_much_waits_for_the_store(tmp_path: Path) -> None:
    served = await serve(tmp_path)
    engine = await _expecting(served, tmp_path)
    try:
        async with _work_without_end(served.store) as waited_s:
            took_s = await asyncio.to_thread(_burst, served.port)
        assert (len(took_s), min(waited_s) > WITHIN_S, max(took_s) < WITHIN_S) == (WEBHOOKS, True, True), max(took_s)
        believed = await served.store.ci_jobs.believed(["gpu"], datetime.now(UTC))
        assert len(believed.waiting) == WEBHOOKS
        assert [pool.name for pool in engine.demand.pools] == ["gpu"]
    finally:
        await served.close()


async def _expecting(served: Served, folder: Path) -> Engine:
    pool = Pool("gpu", (Site(ForgeKind("github"), HUB, "acme"),), ("gpu",), max=WEBHOOKS)
    engine = an_engine(served.store, SystemClock(), {}, pools=[pool])
    (folder / "secret").write_bytes(SECRET)
    told = {"kind": "github", "url": HUB, "webhook_secret_file": "secret"}
    hooks = expected([ForgeSettings.model_validate(told, context=known())], folder, known())
    for listener in served.listeners:
        await listener.close()
    served.services = replace(served.services, webhooks=hooks, demand=engine.demand)
    await served.start()
    return engine


@asynccontextmanager
async def _work_without_end(store: SqlStore) -> AsyncIterator[list[float]]:
    """So much waits for the database all the time that what comes to its end waits for more than a second. Yields how
    long each has waited that has, of those which began when all of them were there."""
    waited_s: list[float] = []
    slow_disk = threading.Event()

    async def again_and_again() -> None:
        while True:
            began_s = time.monotonic()
            await store.database.run(lambda connection: slow_disk.wait(EACH_S))
            if began_s > full_s:
                waited_s.append(time.monotonic() - began_s)

    full_s = float("inf")
    tasks = [asyncio.create_task(again_and_again()) for _ in range(BACKLOG)]
    await asyncio.sleep(0)
    full_s = time.monotonic()
    try:
        yield waited_s
    finally:
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks)


def _burst(port: int) -> list[float]:
    """How long each waited for its answer, in seconds."""
    bodies: SimpleQueue[bytes] = SimpleQueue()
    took_s: list[float] = []
    for number in range(WEBHOOKS):
        bodies.put(_queued(number))

    def line() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with suppress(Empty):
            while body := bodies.get_nowait():
                digest = hmac.new(SECRET, body, hashlib.sha256).hexdigest()
                number = hashlib.sha256(body).hexdigest()
                names = {"X-GitHub-Event": "workflow_job", "X-GitHub-Delivery": number}
                began_s = time.monotonic()
                connection.request("POST", "/hooks/github", body, names | {"X-Hub-Signature-256": f"sha256={digest}"})
                answer = connection.getresponse()
                if answer.status == 202 and json.load(answer) == {"taken": True}:
                    took_s.append(time.monotonic() - began_s)
        connection.close()

    lines = [threading.Thread(target=line) for _ in range(LINES)]
    for one in lines:
        one.start()
    for one in lines:
        one.join()
    return took_s


def _queued(number: int) -> bytes:
    job = {"id": number, "run_id": number, "name": "train", "status": "queued", "labels": ["gpu"]}
    job["created_at"] = datetime.now(UTC).isoformat()
    told = {"action": "queued", "workflow_job": job, "repository": {"full_name": "acme/vision"}}
    return json.dumps(told).encode()
