"""What a CI run needs for a report: what its own jobs left, and images shown to others, so many and no more."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator

import pytest

from provisioner.app.clock import SystemClock
from provisioner.domain.job import Job
from provisioner.domain.store import ManifestRow
from tests.fakes.github.apps import TOKEN
from tests.fakes.github.description import mismatches
from tests.fakes.github.server import FakeGitHub
from tests.unit.cli.terminal import Terminal
from tests.unit.reports.parsed import parse

from .served import Answer, Http
from .test_ci import US, WithDoor, clock, issuer, wish
from .test_ci import web as served
from .test_ci_step import step, web

__all__ = ["clock", "issuer", "served", "step", "web"]

PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)
LEFT = {"metrics.json": b'{"loss": 0.25}', "plots/confusion.png": PNG}


async def leave(web: WithDoor, job: Job) -> None:
    """An attempt of that job that has left these."""
    attempt = await web.assigned(job, await web.instance(job.owner))
    files = []
    for key, (path, data) in enumerate(LEFT.items()):
        await web.services.objects.put(f"results/{job.id}/{attempt.number}/{key}", data)
        sha256 = hashlib.sha256(data).hexdigest()
        files.append({"path": path, "key": str(key), "size": len(data), "sha256": sha256, "mode": 0o644})
    now, body = web.services.clock.now(), {"sequence": 1, "final": True, "files": files}
    await web.store.records.put_manifest(ManifestRow(job.id, attempt.number, "results", 1, True, now, body))


async def test_a_run_reads_what_its_own_jobs_left_and_nothing_of_others(served: WithDoor) -> None:
    mine, theirs = await served.run(), await served.run(run_id="8")
    assert (await mine.post("/api/v1/jobs", wish())).status == 201
    job, anns = await served.store.jobs.get("ci-job-1"), await served.job()
    beside = await served.job(owner=job.owner)
    for one in (job, anns, beside):
        await leave(served, one)

    async def asked(run: Http, of: Job) -> list[int]:
        results = f"/api/v1/jobs/{of.id}/results"
        links = await run.post(f"{results}/1/links", {"paths": ["metrics.json"]})
        return [(await run.get(path)).status for path in (results, f"{results}/1/files/metrics.json")] + [links.status]

    assert await asked(mine, job) == [200, 200, 200]
    assert (await mine.get(f"/api/v1/jobs/{job.id}/results/1/files/metrics.json")).body == LEFT["metrics.json"]
    assert [await asked(*one) for one in ((theirs, job), (mine, anns), (mine, beside))] == [[404] * 3] * 3
    viewer = await served.person("viewer")
    assert await asked(viewer, job) == [200, 200, 200]


async def _publish(run: Http, number: int) -> Answer:
    data = PNG + bytes([number])
    return await run.call("PUT", f"/api/v1/published/{hashlib.sha256(data).hexdigest()}/a.png", data)


async def test_a_run_publishes_so_many_images_and_no_more(served: WithDoor) -> None:
    served.services.shown.most = 2
    mine, theirs, again = await served.run(), await served.run(run_id="8"), await served.run()
    assert [(await _publish(mine, number)).status for number in (0, 1, 0)] == [201] * 3
    refused = await _publish(again, 2)
    assert (refused.status, refused.message) == (403, "this CI run has published 2 images, as many as one may")
    assert (await _publish(theirs, 2)).status == 201
    person = await served.person("user")
    assert [(await _publish(person, number)).status for number in range(3, 6)] == [201] * 3
    assert len(await served.services.objects.under("published/")) == 6


async def test_only_the_runs_that_came_last_are_counted(served: WithDoor) -> None:
    shown = served.services.shown
    shown.most_runs = 2
    for run in ("a", "b", "a", "c"):
        shown.count(run, "x")
    assert list(shown.by_run) == ["a", "c"]


@pytest.fixture
def github(step: Terminal) -> Iterator[FakeGitHub]:
    """The step is of a pull request; the workflow's own token may comment there."""
    fake = FakeGitHub(SystemClock())
    fake.start()
    fake.add_repository("acme/vision")
    event = step.folder / "event.json"
    event.write_text(json.dumps({"pull_request": {"number": 42, "head": {"sha": "a" * 40}, "base": {"ref": "main"}}}))
    step.extra |= {
        "GITHUB_API_URL": f"{fake.url}/api/v3",
        "GITHUB_EVENT_PATH": str(event),
        "GITHUB_TOKEN": TOKEN,
    }
    yield fake
    fake.stop()
    assert mismatches(fake.exchanges) == []


async def test_a_step_reports_what_its_run_launched_with_no_token_of_ours(
    web: WithDoor, step: Terminal, github: FakeGitHub
) -> None:
    assert (await asyncio.to_thread(step.run, "launch", "--detach")).returncode == 0
    (job,) = await web.store.jobs.find()
    await leave(web, job)
    done = await asyncio.to_thread(step.run, "report", job.id, "--post", "--publish")
    assert done.returncode == 0, done.stderr
    (comment,) = github.reviews.of("acme/vision/issues/42")
    report = parse(comment.body)
    assert ["loss", "0.25"] in report.tables[0]
    ((_, address),) = report.images
    assert address.startswith(f"{US}/published/")
    shown = await Http(web.port).get(address.removeprefix(US))
    assert (shown.status, shown.body) == (200, PNG)
    web.issuer.claims["run_id"] = "8"
    other = await asyncio.to_thread(step.run, "report", job.id)
    assert other.returncode != 0
    assert other.stderr == f"runner: no job '{job.id}'; a CI run sees what it made itself\n"
