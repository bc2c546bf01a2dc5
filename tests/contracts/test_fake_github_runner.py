"""The fake GitHub's side of a runner's program, as `tests.fakes.github.runner_api` documents it."""

from __future__ import annotations

import base64
import json
import threading
import urllib.error
import urllib.request
from typing import Any

import pytest

from provisioner.domain.forge import Site
from provisioner.forges.github.forge import GitHub
from tests.fakes.github.server import FakeGitHub
from tests.fakes.hand_clock import HandClock

from .forge_laws import LABELS, order
from .test_forge_github import clock, fake, forge, site

__all__ = ["clock", "fake", "forge", "site"]  # fixtures


class Program:
    """As small a program as can speak it."""

    def __init__(self, jit: str) -> None:
        files = {name: json.loads(base64.b64decode(text)) for name, text in json.loads(base64.b64decode(jit)).items()}
        self.url, self.settings = files[".runner"]["ServerUrl"], files[".runner"]
        self.token = files[".credentials"]["Data"]["token"]

    def says(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Authorization": f"Bearer {self.token}"}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.url + path, data, headers, method=method)
            ) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            with error:
                return error.code, None

    def begin(self) -> tuple[int, Any]:
        return self.says("POST", "/sessions", {"version": "2.330.0"})


@pytest.fixture
async def program(forge: GitHub, site: Site) -> Program:
    return Program((await forge.register(site, order("runner-i-1"))).secret)


async def test_a_job_is_taken_run_and_ended_and_the_record_goes(program: Program, fake: FakeGitHub, site: Site) -> None:
    assert program.settings["GitHubUrl"] == site.url
    status, session = program.begin()
    assert (status, session["name"], session["labels"]) == (201, "runner-i-1", list(LABELS))
    assert program.says("GET", f"/sessions/{session['session']}/job") == (204, None)
    job = fake.state.add_run(site.path, [list(LABELS)]).latest[0]
    job.steps = [{"name": "train", "run": "true"}]
    status, told = program.says("GET", f"/sessions/{session['session']}/job")
    assert (status, told["id"], told["steps"], told["repository"]) == (200, str(job.id), job.steps, site.path)
    assert program.says("GET", f"/sessions/{session['session']}/job")[1] == told
    assert program.says("GET", f"/jobs/{job.id}") == (200, {"cancelled": False})
    fake.state.cancel(fake.state.runs[job.run_id])
    assert program.says("GET", f"/jobs/{job.id}?wait_s=5") == (200, {"cancelled": True})
    assert program.says("POST", f"/jobs/{job.id}/end", {"conclusion": "cancelled"}) == (204, None)
    assert (job.status, job.conclusion, fake.state.living(site.path)) == ("completed", "cancelled", [])
    assert program.says("GET", f"/sessions/{session['session']}/job")[0] == 401


async def test_a_job_wakes_a_program_that_waits(program: Program, fake: FakeGitHub, site: Site) -> None:
    """The clock stands still: only the job itself can end this wait."""
    session = program.begin()[1]["session"]
    given: list[tuple[int, Any]] = []
    waiting = threading.Thread(target=lambda: given.append(program.says("GET", f"/sessions/{session}/job?wait_s=20")))
    waiting.start()
    job = fake.state.add_run(site.path, [list(LABELS)]).latest[0]
    waiting.join(timeout=10.0)
    assert [told["id"] for _, told in given] == [str(job.id)]


async def test_a_configuration_is_good_for_one_session(program: Program, fake: FakeGitHub) -> None:
    session = program.begin()[1]["session"]
    assert program.begin()[0] == 409
    assert program.says("DELETE", f"/sessions/{session}") == (204, None)
    assert program.begin()[0] == 401


async def test_a_version_can_be_refused(program: Program, fake: FakeGitHub) -> None:
    fake.refused_versions.add("2.330.0")
    assert program.begin()[0] == 426


async def test_who_falls_silent_is_offline_and_loses_its_job(
    program: Program, fake: FakeGitHub, forge: GitHub, site: Site, clock: HandClock
) -> None:
    session = program.begin()[1]["session"]
    job = fake.state.add_run(site.path, [list(LABELS)]).latest[0]
    assert program.says("GET", f"/sessions/{session}/job")[0] == 200
    assert [runner.online for runner in await _runners(forge, site, clock, 6.0)] == [True]
    assert [runner.online for runner in await _runners(forge, site, clock, fake.offline_after_s)] == [False]
    clock.move(fake.lost_after_s)
    fake.state.lose_the_silent(fake.lost_after_s)
    assert (job.status, job.conclusion) == ("completed", "failure")
    assert program.says("POST", f"/jobs/{job.id}/end", {"conclusion": "success"})[0] == 401


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        content: bytes = answer.read()
        return content


async def _runners(forge: GitHub, site: Site, clock: HandClock, later_s: float) -> list[Any]:
    clock.move(later_s)
    return list(await forge.runners(site))


async def test_the_program_is_where_the_listing_says(forge: GitHub, fake: FakeGitHub, site: Site) -> None:
    archive = fake.publish(b"the program", "2.330.0")
    found = await forge.software(site, "linux", "x86_64")
    assert fetched(found.url) == b"the program"
    assert found.sha256 == archive.sha256
