"""A step without a controller to talk to, on a cloud whose machines boot: a real EC2 API, real user-data, SSH and agent
and a GitHub with real state; the machine serves its job and powers itself off, with nobody there."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.fakes import booting, sshd
from tests.fakes.booting import BootingCloud
from tests.fakes.github.server import FakeGitHub
from tests.system.hub import open_hub, reach_from_machines
from tests.system.test_aws import cloud, instances
from tests.system.test_aws_runners import secrets_in
from tests.system.test_aws_ssh import let_in
from tests.system.world import World, world
from tests.unit.cli.step import github

__all__ = ["cloud"]
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(bool(booting.missing()), reason=booting.missing() or "it can"),
    pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing() or "it is there"),
]
LAUNCH = ("launch", "--provider", "aws", "--gpu", "T4", "--max-lifetime", "30m")
TOKEN = "ghp_classic-token-of-ada"
SECRET = "test-secret-of-the-step"


@pytest.fixture
def hub(cloud: BootingCloud) -> Iterator[FakeGitHub]:
    with open_hub() as made:
        reach_from_machines(made, cloud)
        yield made


@pytest.fixture
def w(tmp_path: Path, cloud: BootingCloud, hub: FakeGitHub) -> Iterator[World]:
    """A step with credentials of its own, for the cloud and for the forge."""
    aws = {
        "AWS_ENDPOINT_URL": cloud.cloud.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    here = {"GITHUB_SERVER_URL": hub.url, "GITHUB_API_URL": f"{hub.url}/api/v3", "RUNNER_FORGE_TOKEN": TOKEN}
    with tempfile.TemporaryDirectory(prefix="st-") as short, world(tmp_path) as made:
        (tmp_path / "step").mkdir()
        made.extra |= aws | github(tmp_path / "step") | here | {"TMPDIR": short}
        made.home.mkdir(mode=0o700)
        image = cloud.cloud.images["us-east-1/x86_64"]
        text = f"aws: {{regions: [us-east-1], image: {image}, ssh_from: {cloud.gateway}/32}}\n"
        (made.home / "settings.yaml").write_text(text)
        yield made


def test_it_serves_its_job_and_powers_itself_off(w: World, cloud: BootingCloud, hub: FakeGitHub) -> None:
    done = w.run(*LAUNCH, timeout_s=200)
    label = done.stdout.decode().strip()
    assert (w.pids("controller"), list(Path(w.extra["TMPDIR"]).iterdir()), let_in()) == ([], [], set())
    (row,) = [row for one in _ec2().describe_instances()["Reservations"] for row in one["Instances"]]
    assert "gpu-runner:handed-over" in {tag["Key"] for tag in row["Tags"]}
    (record,) = hub.state.living("acme/vision")
    assert f"runner: {record.name} looks after itself now: at most $".encode() in done.stderr
    (host,) = cloud.hosts.values()
    held = [path for path in (*host.folder.rglob("*"), *w.home.rglob("*")) if path.is_file()]
    assert [path for path in held for one in (SECRET, TOKEN) if one.encode() in path.read_bytes()] == []
    assert secrets_in(host, hub, SECRET, TOKEN) == []
    assert label in record.labels
    _served_and_gone(cloud, hub)
    assert _group()["IpPermissions"] == []


@contextlib.contextmanager
def _launching(w: World, cloud: BootingCloud) -> Iterator[subprocess.Popen[bytes]]:
    """The command, stopped as soon as the agent has on its disk that it was handed over; its controller still runs."""
    with subprocess.Popen(
        w.command(*LAUNCH), env=w.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        try:
            w.until(lambda: _acknowledged(cloud), 120, "the acknowledgement")
            running.send_signal(signal.SIGSTOP)
            yield running
        finally:
            running.kill()


def test_killed_with_its_command_right_after_the_hand_over_it_serves_its_job_and_goes(
    w: World, cloud: BootingCloud, hub: FakeGitHub
) -> None:
    """The door may still be open to the step's address. It goes with the group that it is in, by `gc --expired`."""
    with _launching(w, cloud) as running:
        assert w.kill("controller") == 1
        running.kill()
    _served_and_gone(cloud, hub)
    assert let_in() <= {f"{cloud.gateway}/32"}
    group = _group()["GroupId"]
    past = {"Key": "gpu-runner:expires-at", "Value": "2026-01-01T00:00:00+00:00"}
    _ec2().create_tags(Resources=[group], Tags=[past])
    assert group in w.run("gc", "--expired", "--provider", "aws").stdout.decode()
    assert let_in() == set()


def test_its_controller_alone_is_killed_right_after_the_hand_over_and_the_command_shuts_the_door(
    w: World, cloud: BootingCloud, hub: FakeGitHub
) -> None:
    """The next controller is given the rights anew, and hears of the hand-over from a machine that is on its own."""
    with _launching(w, cloud) as running:
        assert w.kill("controller") == 1
        running.send_signal(signal.SIGCONT)
        _, said = running.communicate(timeout=120)
    assert running.returncode == 0, said.decode()
    assert b"looks after itself now" in said
    assert (w.pids("controller"), list(Path(w.extra["TMPDIR"]).iterdir()), let_in()) == ([], [], set())
    _served_and_gone(cloud, hub)


def _acknowledged(cloud: BootingCloud) -> bool:
    return any(list(host.folder.rglob("handed-over.json")) for host in cloud.hosts.values())


def _served_and_gone(cloud: BootingCloud, hub: FakeGitHub) -> None:
    """With nobody there: the one runner is given a job, serves it, and its machine powers itself off."""
    (record,) = hub.state.living("acme/vision")
    job = hub.state.add_run("acme/vision", [list(record.labels)]).latest[0]
    booting.until(lambda: job.status == "completed", "the job to be served", 90)
    assert (job.conclusion, job.runner and job.runner.name) == ("success", record.name)
    booting.until(lambda: instances(cloud) == ["terminated"], "the machine to power itself off", 60)
    assert hub.state.living("acme/vision") == []


def _group() -> dict[str, Any]:
    groups: list[dict[str, Any]] = _ec2().describe_security_groups()["SecurityGroups"]
    (ours,) = [one for one in groups if "gpu-runner:expires-at" in {tag["Key"] for tag in one.get("Tags", ())}]
    return ours


def _ec2() -> Any:
    return boto3.client("ec2", region_name="us-east-1")
