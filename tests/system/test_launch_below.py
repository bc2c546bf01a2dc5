"""A forge that lives below its host's root, from the settings to the runner's program and back to nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.system.elsewhere import open_lab
from tests.system.world import world

pytestmark = pytest.mark.system


def test_a_runner_comes_to_a_forge_below_its_hosts_root_and_serves_there(tmp_path: Path) -> None:
    with open_lab(root="/gitlab") as there, world(tmp_path) as w:
        server = there.server
        w.home.mkdir(parents=True, exist_ok=True)
        (w.home / "settings.yaml").write_text(json.dumps({"forges": [there.settings()]}))
        w.extra["FORGE_TOKEN"] = there.token
        done = w.run("launch", "--repo", f"{server.url}/acme/vision")
        assert f"is online at {server.url}/acme/vision" in done.stderr.decode()
        job = there.queue([done.stdout.decode().strip()])
        w.until(lambda: job.status == "success", 60, "the job to be served")
        w.until(lambda: not server.state.runners, 60, "the runner's record to go")
        w.nothing_left()
