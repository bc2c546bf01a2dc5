"""`runner pools` and `runner why pool/NAME`, at a served controller."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.domain.demand import NoDemand, PoolShown
from tests.unit.web.served import Served, serve

from .terminal import Terminal

STAGES = {"waiting": 1, "coming": 2, "idle": 3, "busy": 4, "ending": 5}
JOB = {"id": "7", "repository": "acme/app", "run": "1", "name": "train", "url": "", "labels": ["gpu"], "waited_s": 3.5}
RUNNER = {"job": "j-1", "site": "https://github.com/acme", "repository": "", "stage": "idle"}
SHOWN = PoolShown("gpu", (RUNNER["site"],), ("gpu", "t4"), 9, 1, 1, 2, STAGES, ("1 jobs wait",), (JOB,), (RUNNER,))


class OnePool(NoDemand):
    async def shown(self) -> list[PoolShown]:
        return [SHOWN]


@pytest.fixture
async def served(tmp_path: Path, terminal: Terminal) -> AsyncIterator[Served]:
    web = await serve(tmp_path)
    for listener in web.listeners:
        await listener.close()
    web.services = replace(web.services, demand=OnePool())
    await web.start()
    made = await web.control.post("/api/v1/tokens", {"name": "ann", "role": "viewer"})
    terminal.extra |= {"RUNNER_SERVER": f"http://127.0.0.1:{web.port}", "RUNNER_TOKEN": made.json["token"]}
    yield web
    await web.close()


async def test_pools_are_listed_shown_and_explained(served: Served, terminal: Terminal) -> None:
    listed = await asyncio.to_thread(terminal.run, "pools", "ls")
    assert [line.split() for line in listed.stdout.splitlines()] == [
        ["POOL", "LABELS", "JOBS", "WANTED", "WAITING", "COMING", "IDLE", "BUSY", "ENDING", "MAX"],
        ["gpu", "gpu,", "t4", "1", "2", "1", "2", "3", "4", "5", "9"],
    ]
    shown = (await asyncio.to_thread(terminal.run, "pools", "show", "gpu")).stdout
    assert shown.startswith("gpu: gpu, t4 at https://github.com/acme\n  1 jobs wait\n")
    assert "kept ready" in shown
    why = await asyncio.to_thread(terminal.run, "why", "pool/gpu")
    assert (why.returncode, why.stdout) == (0, "1 jobs wait\n")
    as_json = await asyncio.to_thread(terminal.run, "pools", "ls", "--json")
    assert [one["id"] for one in json.loads(as_json.stdout)] == ["gpu"]


async def test_a_pool_that_is_not_there_is_said_in_a_line(served: Served, terminal: Terminal) -> None:
    for words in (("pools", "show", "cpu"), ("why", "pool/cpu")):
        done = await asyncio.to_thread(terminal.run, *words)
        assert done.returncode == 2
        assert done.stderr.startswith("runner: no pool is called 'cpu'; `runner pools ls` lists them")
