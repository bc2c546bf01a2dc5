"""A step of GitLab's CI without a controller to talk to: who takes the runner's record away once nobody is there."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.gitlab.server import TOKEN, GitLabServer
from tests.system.elsewhere import Elsewhere, open_lab
from tests.system.world import World, world
from tests.unit.cli.step import GITLAB

pytestmark = pytest.mark.system


@pytest.fixture
def there() -> Iterator[Elsewhere]:
    with open_lab("/gitlab") as made:
        yield made


@pytest.fixture
def lab(there: Elsewhere) -> GitLabServer:
    assert isinstance(there.server, GitLabServer)
    return there.server


@pytest.fixture
def w(tmp_path: Path, there: Elsewhere, lab: GitLabServer) -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="st-") as short, world(tmp_path) as made:
        forge = there.settings() | {"token_env": "LAB_TOKEN"}
        made.home.mkdir()
        (made.home / "settings.yaml").write_text(json.dumps({"forges": [forge]}))
        here = {"CI_SERVER_URL": lab.url, "CI_API_V4_URL": f"{lab.url}/api/v4"}
        made.extra |= GITLAB | here | {"LAB_TOKEN": TOKEN, "TMPDIR": short}
        yield made


def launched(w: World, lab: GitLabServer, *words: str) -> tuple[str, str]:
    """The one runner's label and its token; its controller is gone."""
    label = w.run("launch", "--dotenv", str(w.home.parent / "runner.env"), *words).stdout.decode().strip()
    assert w.pids("controller") == []
    (record,) = lab.state.runners.values()
    return label, record.token


def gone(w: World, lab: GitLabServer, token: str) -> None:
    """The machine, and the record by the machine's own word; its token was on no disk, nor was what made it."""
    w.until(lambda: not w.processes(), 60, f"everything to end: {w.processes()}")
    assert lab.state.runners == {}
    assert [asked.body for asked in lab.sent("DELETE /runners.*")] == [{"token": token}]
    held = ["grep", "-rlaF", "-e", TOKEN, "-e", token, str(w.home)]
    assert subprocess.run(held, capture_output=True, check=False).stdout == b""


def test_a_runner_that_has_served_its_job_takes_its_record_away(w: World, lab: GitLabServer) -> None:
    label, token = launched(w, lab)
    job = lab.state.queue("acme/vision", [label])
    w.until(lambda: job.status == "success", 60, "the job to be served")
    gone(w, lab, token)


def test_a_runner_that_had_no_job_takes_its_record_away(w: World, lab: GitLabServer) -> None:
    _, token = launched(w, lab, "--idle-timeout", "5s")
    assert len(lab.state.runners) == 1
    gone(w, lab, token)
