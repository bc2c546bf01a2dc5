"""A forge that lives below its host's root, from the settings to the runner's program and back to nothing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.fakes import standin_runner
from tests.fakes.forge_http import Answer
from tests.fakes.gitlab.server import TOKEN, GitLabServer
from tests.system.world import world

pytestmark = pytest.mark.system
VERSION = "18.5.0"


def publish(server: GitLabServer) -> None:
    """The program, where its publisher has it, for both kinds of machines."""
    program = standin_runner.alone(VERSION)
    sha256, place = hashlib.sha256(program).hexdigest(), f"/software/v{VERSION}"
    names = [f"gitlab-runner-linux-{machine}" for machine in ("amd64", "arm64")]
    plain = {"Content-Type": "application/octet-stream"}
    server.files |= {f"{place}/binaries/{name}": Answer(program, headers=plain) for name in names}
    listed = "".join(f"{sha256}\tbinaries/{name}\n" for name in names).encode()
    server.files[f"{place}/release.sha256"] = Answer(listed, headers=plain)


def test_a_runner_comes_to_a_forge_below_its_hosts_root_and_serves_there(tmp_path: Path) -> None:
    with GitLabServer(root="/gitlab") as server, world(tmp_path) as w:
        assert isinstance(server, GitLabServer)
        server.state.project("acme/vision")
        publish(server)
        forge = {"kind": "gitlab", "url": server.url, "token_env": "LAB_TOKEN"}
        forge |= {"runner_version": VERSION, "runner_url": f"{server.url}/software"}
        w.home.mkdir(parents=True, exist_ok=True)
        (w.home / "settings.yaml").write_text(json.dumps({"forges": [forge]}))
        w.extra["LAB_TOKEN"] = TOKEN
        done = w.run("launch", "--repo", f"{server.url}/acme/vision")
        assert f"is online at {server.url}/acme/vision" in done.stderr.decode()
        job = server.state.queue("acme/vision", [done.stdout.decode().strip()])
        w.until(lambda: job.status == "success", 60, "the job to be served")
        w.until(lambda: not server.state.runners, 60, "the runner's record to go")
        w.nothing_left()
