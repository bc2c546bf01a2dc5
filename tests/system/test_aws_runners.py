"""CI runners on a cloud whose machines boot: a job waits at a GitHub with real state, `runner launch` in a step of its
workflow, a real EC2 API, real user-data and agent, and the stand-in for the runner program; then nothing is left."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import booting
from tests.fakes.booting import BootingCloud, Host
from tests.fakes.github.server import FakeGitHub
from tests.fakes.github.state import Job
from tests.fakes.user_data import all_said
from tests.system.hub import open_hub, reach_from_machines
from tests.system.test_aws import cloud, controlled, instances, serving_again
from tests.system.world import World
from tests.unit.cli.step import github

__all__ = ["cloud"]
pytestmark = [
    pytest.mark.skipif(bool(booting.missing()), reason=booting.missing() or "it can"),
    pytest.mark.system,
]
LAUNCH = ("launch", "--provider", "aws", "--gpu", "T4", "--labels", "gpu")
TOKEN = "ghp_classic-token-of-ada"
STEPS = [{"name": "who", "run": "test $(id -un) = runner"}]


def secrets_in(host: Host, hub: FakeGitHub, *more: str) -> list[str]:
    """What of these, of the runners' own secrets and of their configurations its user-data says."""
    told = all_said(json.loads((host.folder / "metadata.json").read_text())["user_data"])
    made = [one.answer["encoded_jit_config"] for one in hub.exchanges if one.path.endswith("/generate-jitconfig")]
    runners = [one.token for one in hub.state.records]
    assert made
    assert runners
    return [one for one in (*made, *runners, *more) if one in told]


@pytest.fixture
def hub(cloud: BootingCloud) -> Iterator[FakeGitHub]:
    with open_hub() as made:
        reach_from_machines(made, cloud)
        yield made


@dataclass
class Site:
    w: World
    cloud: BootingCloud
    hub: FakeGitHub

    def queued(self, *labels: str) -> Job:
        job = self.hub.state.add_run("acme/vision", [list(labels)]).latest[0]
        job.steps = list(STEPS)
        return job

    def all_gone(self, job: Job) -> dict[str, Any]:
        """Once the CI job has ended well: no machine, no host, no runner, and the one job of ours succeeded."""
        self.w.until(lambda: job.status == "completed", 90, "the CI job to end")
        assert job.conclusion == "success"
        (ours,) = self.w.json("ps", "-a")
        self.w.wait_done(ours["id"])
        self.w.until(lambda: not self.w.json("machines"), 60, "the machine to be gone")
        booting.until(lambda: not self.cloud.hosts, "the host to end")
        assert (instances(self.cloud), self.hub.state.living("acme/vision")) == (["terminated"], [])
        shown = self.w.job(ours["id"])
        (runner,) = shown["runners"]
        assert job.runner is not None
        assert runner["name"] == job.runner.name
        assert all(runner[key] for key in ("online_at", "busy_at", "gone_at"))
        assert (shown["outcome"], shown["attempts"], len(self.cloud.ended)) == ("succeeded", 1, 1)
        return shown


@pytest.fixture
def site(cloud: BootingCloud, hub: FakeGitHub, tmp_path: Path) -> Iterator[Site]:
    """A controller with rights there, and a step of that GitHub's CI, which has none."""
    rights, step = tmp_path / "token", tmp_path / "step"
    rights.write_text(TOKEN)
    step.mkdir()
    forges = f"forges: [{{kind: github, url: '{hub.url}', token_file: {rights}}}]"
    # A controller may take its time to start again.
    with controlled(cloud, tmp_path, more=forges, launch_timeout_s=60.0, silence_s=60.0) as w:
        w.extra |= github(step) | {"GITHUB_SERVER_URL": hub.url, "GITHUB_API_URL": f"{hub.url}/api/v3"}
        token = w.json("token", "create", "ann")["token"]
        server = f"https://{cloud.gateway}:{(tmp_path / 'port').read_text()}"
        w.extra |= {"RUNNER_SERVER": server, "RUNNER_TOKEN": token, "RUNNER_CA": str(w.home / "tls/ca.pem")}
        yield Site(w, cloud, hub)


def test_a_queued_job_a_machine_a_runner_the_job_and_nothing_left(site: Site) -> None:
    waiting = site.queued("gpu")
    done = site.w.run(*LAUNCH)
    assert " is online at " in done.stderr.decode()
    label = done.stdout.decode().split(",")[0]
    shown = site.all_gone(waiting)
    assert label in shown["spec"]["runner"]["labels"]
    (host,) = site.cloud.ended
    assert secrets_in(host, site.hub, TOKEN) == []


@pytest.mark.parametrize("killed_at", ["launch", "boot", "registration"])
def test_the_controller_is_killed_before_the_runner_is_online(site: Site, killed_at: str) -> None:
    """It goes on where it was, with the same machine and the same runner, and the command waits for it."""
    waiting = site.queued("gpu")
    running = subprocess.Popen(
        site.w.command(*LAUNCH), env=site.w.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    reached = {
        "launch": lambda: site.cloud.cloud.asked("RunInstances"),
        "boot": lambda: site.cloud.hosts,
        "registration": lambda: site.hub.state.living("acme/vision"),
    }
    booting.until(reached[killed_at], killed_at)
    assert site.w.kill("controller") == 1
    with serving_again(site.w, site.cloud):
        said, _ = running.communicate(timeout=90)
        assert running.returncode == 0, said
        site.all_gone(waiting)
