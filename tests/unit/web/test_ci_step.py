"""A CI step against a served controller, with no token of ours: its forge's word is enough, and is given anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.app.clock import SystemClock
from provisioner.domain.forge import ForgeKind, Site
from provisioner.domain.job import Attempt
from provisioner.domain.policy import Policy
from tests.fakes.issuer import STEP_BEARER, Issuer
from tests.unit.cli.step import GITLAB, github
from tests.unit.cli.terminal import Terminal

from .served import serve
from .test_ci import WithDoor

VISION = Site(ForgeKind("github"), "https://github.com", "acme/vision")


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[WithDoor]:
    with Issuer() as issuer:
        plain = await serve(tmp_path)
        for listener in plain.listeners:
            await listener.close()
        made = WithDoor(issuer, SystemClock(), tmp_path, plain.store, str(tmp_path / "objects"), Policy())
        await made.start()
        made.policies[1] = replace(made.policies[1], audience=f"http://127.0.0.1:{made.port}")
        now = int(made.services.clock.now().timestamp())
        run = {"repository": "acme/vision", "ref": "refs/heads/main", "run_id": "7", "event_name": "push"}
        issuer.claims = {"iss": issuer.url, "iat": now, "exp": now + 300, **run}
        yield made
        await made.door.close()
        await made.close()


@pytest.fixture
def step(web: WithDoor, tmp_path: Path) -> Terminal:
    """With `permissions: id-token: write`, and RUNNER_SERVER."""
    work = tmp_path / "work"
    work.mkdir()
    granted = {
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{web.issuer.url}/step?api-version=2.0",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": STEP_BEARER,
        "RUNNER_SERVER": f"http://127.0.0.1:{web.port}",
    }
    return Terminal(tmp_path / "home", work, github(work) | granted)


async def test_a_step_without_a_token_launches_by_its_forges_word(web: WithDoor, step: Terminal) -> None:
    done = await asyncio.to_thread(step.run, "launch", "--detach")
    assert done.returncode == 0, done.stderr
    (job,) = await web.store.jobs.find()
    assert job.owner.startswith("ci.")
    assert job.spec.origin is not None
    assert job.spec.origin.run == "https://github.com/acme/vision#7.1"
    assert not step.home.exists()  # no controller of its own was begun


async def test_a_session_that_ends_while_the_step_waits_is_renewed(web: WithDoor, step: Terminal) -> None:
    waiting = asyncio.create_task(asyncio.to_thread(step.run, "launch"))
    attempt = await _assigned(web)
    web.policies[1] = replace(web.policies[1], key="so that sessions of before have ended")
    row = await web.store.runners.expect(attempt, VISION, "runner-1", web.services.clock.now())
    await web.store.runners.note(row.name, online_at=web.services.clock.now())
    done = await waiting
    assert done.returncode == 0, done.stderr
    assert len(await web.events("ci.admitted")) == 2


async def _assigned(web: WithDoor) -> Attempt:
    while not (jobs := await web.store.jobs.find()):  # noqa: ASYNC110  (another process stores it)
        await asyncio.sleep(0.02)
    return await web.assigned(jobs[0], await web.instance(jobs[0].owner))


async def test_another_job_of_the_run_may_cancel_what_it_launched(web: WithDoor, step: Terminal) -> None:
    assert (await asyncio.to_thread(step.run, "launch", "--detach")).returncode == 0
    (job,) = await web.store.jobs.find()
    beside = await web.job(owner=job.owner)
    step.extra |= {"GITHUB_JOB": "stop", "RUNNER_TRACKING_ID": "github_another"}
    done = await asyncio.to_thread(step.run, "cancel", "--of-run")
    assert (done.returncode, done.stdout) == (0, f"{job.id} is asked to end\n"), done.stderr
    assert (await web.store.jobs.get(beside.id)).cancel_asked_at is None
    assert (await web.store.jobs.get(job.id)).cancel_asked_at is not None


async def test_a_refused_run_is_told_why_and_launches_nothing(web: WithDoor, step: Terminal) -> None:
    web.issuer.claims["repository"] = "eve/vision"
    done = await asyncio.to_thread(step.run, "launch")
    assert (done.returncode, await web.store.jobs.find()) == (3, [])
    assert done.stderr == "runner: no policy of this controller is for eve/vision; see `ci:` of its settings\n"


async def test_a_job_without_the_permission_is_told_which(web: WithDoor, step: Terminal) -> None:
    del step.extra["ACTIONS_ID_TOKEN_REQUEST_URL"]
    done = await asyncio.to_thread(step.run, "launch")
    assert done.returncode == 3
    assert done.stderr.startswith(
        "runner: this CI job has no identity to show to RUNNER_SERVER; give the job `permissions: id-token: write`"
    )


async def test_a_token_of_ours_goes_before(web: WithDoor, step: Terminal) -> None:
    person = await web.person("user", "ann")
    step.extra["RUNNER_TOKEN"] = person.headers["Authorization"].removeprefix("Bearer ")
    assert (await asyncio.to_thread(step.run, "launch", "--detach")).returncode == 0
    assert [job.owner for job in await web.store.jobs.find()] == ["ann"]
    assert web.issuer.asked == []


async def test_gitlab_gives_its_word_in_a_variable(web: WithDoor, tmp_path: Path) -> None:
    server = f"http://127.0.0.1:{web.port}"
    gitlab = Site(ForgeKind("gitlab"), "https://gitlab.example", "")
    web.policies[:] = [replace(web.policies[1], site=gitlab, key="gitlab")]
    said = {"iss": web.issuer.url, "aud": server, "project_path": "acme/vision", "pipeline_id": "7001", "ref": "main"}
    token = web.issuer.token({**web.issuer.claims, **said})
    work = tmp_path / "gitlab"
    work.mkdir()
    extra = GITLAB | {"RUNNER_SERVER": server, "RUNNER_ID_TOKEN": token}
    done = await asyncio.to_thread(Terminal(tmp_path / "home", work, extra).run, "launch", "--detach")
    assert done.returncode == 0, done.stderr
    (job,) = await web.store.jobs.find()
    assert job.spec.origin is not None
    assert job.spec.origin.run == "https://gitlab.example/acme/vision#7001.1"
    assert token not in done.stdout + done.stderr
