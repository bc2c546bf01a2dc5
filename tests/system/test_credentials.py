"""Credentials from a terminal to a real embedded controller: used, nowhere written, gone with it, and given again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import ec2
from tests.fakes.ec2 import Cloud, Key
from tests.fakes.ports import free_port
from tests.system.served import served
from tests.system.world import World, world

pytestmark = pytest.mark.system
ACCOUNT = "123456789012"
ANN, BOB, CY = (f"arn:aws:iam::{account}:user/{name}" for account, name in
                ((ACCOUNT, "ann"), (ACCOUNT, "bob"), ("999999999999", "cy")))  # fmt: skip
SECRET = "wJalrXUtnFEMI-of-{}"
ON_AWS = ("run", "--provider", "aws", "--gpu", "T4", "--no-workdir", "--detach")
SETTINGS = "aws: {{enabled: {enabled}, regions: [us-east-1], image: {image}}}\npublic_url: '{url}'\n"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with ec2.cloud(tmp_path) as running:
        running.keys = {"AKIAANN": Key(ANN), "AKIABOB": Key(BOB), "AKIACY": Key(CY), "test": Key(ANN)}
        yield running


@contextlib.contextmanager
def home(cloud: Cloud, folder: Path) -> Iterator[World]:
    with world(folder, extra={"AWS_EC2_METADATA_DISABLED": "true"}) as w:
        w.home.mkdir(mode=0o700)
        configure(w, cloud)
        yield w
        assert holding_secrets(w.home) == []


def configure(w: World, cloud: Cloud, *, enabled: str = "false", url: str = "") -> None:
    image = cloud.images["us-east-1/x86_64"]
    (w.home / "settings.yaml").write_text(SETTINGS.format(enabled=enabled, image=image, url=url))


def log_in(w: World, cloud: Cloud, name: str, *, profile: bool = False) -> None:
    """By variables, or by a profile in the SDK's own files, outside of the home."""
    key, secret = f"AKIA{name.upper()}", SECRET.format(name)
    for one in [one for one in w.extra if one.startswith("AWS_") and one != "AWS_EC2_METADATA_DISABLED"]:
        del w.extra[one]
    if not profile:
        w.extra |= {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
        w.extra |= {"AWS_ENDPOINT_URL": cloud.endpoint, "AWS_DEFAULT_REGION": "us-east-1"}
        return
    file = w.home.parent / "sdk-config"
    lines = [f"[profile {name}]", f"aws_access_key_id = {key}", f"aws_secret_access_key = {secret}"]
    file.write_text("\n".join([*lines, "region = us-east-1", f"endpoint_url = {cloud.endpoint}"]))
    w.extra |= {"AWS_CONFIG_FILE": str(file), "AWS_PROFILE": name}


def holding_secrets(folder: Path) -> list[str]:
    mark = SECRET.format("").encode()
    return [str(path) for path in folder.rglob("*") if path.is_file() and mark in path.read_bytes()]


def states(cloud: Cloud) -> list[str]:
    import boto3

    found = boto3.client("ec2", region_name="us-east-1").describe_instances()["Reservations"]
    return [row["State"]["Name"] for one in found for row in one["Instances"]]


def events(w: World, what: str) -> list[dict[str, Any]]:
    return [one for one in w.json("events") if one["what"] == what]


@pytest.mark.parametrize("profile", [False, True])
def test_an_embedded_controller_works_with_what_the_command_handed_over(
    cloud: Cloud, tmp_path: Path, profile: bool
) -> None:
    with home(cloud, tmp_path) as w:
        log_in(w, cloud, "ann", profile=profile)
        done = w.run(*ON_AWS, "--max-lifetime", "1h", "--", "true")
        first, *_ = done.stderr.decode().splitlines()
        assert first.startswith(
            f"runner: first use of aws account {ACCOUNT}, as {ANN}; its best offer for this is aws "
        )
        assert first.endswith("; at most $10/h and 8 machines at once")
        w.until(lambda: ("DescribeSubnets", "AKIAANN") in cloud.signed_by, 30, "the launch to begin")
        (pid,) = w.pids("controller")
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"AWS_" not in environment
        done = w.run(*ON_AWS, "--max-lifetime", "1h", "--", "true")
        assert b"first use" not in done.stderr
        assert [name for name, key in cloud.signed_by if key == "AKIAANN"].count("GetCallerIdentity") == 1
        assert SECRET.format("ann") not in json.dumps(w.json("events"))


def test_a_restarted_controller_is_paused_until_they_come_again_and_then_ends_its_machine(
    cloud: Cloud, tmp_path: Path
) -> None:
    """The machine was launched by a controller with credentials of its own, which is gone."""
    with home(cloud, tmp_path) as w:
        port = free_port()
        configure(w, cloud, enabled="true", url=f"http://127.0.0.1:{port}")
        log_in(w, cloud, "ann")
        with served(w, port=port):
            job = w.submit(*ON_AWS[1:-1], "--", "true")
            w.until(lambda: states(cloud), 30, "the machine")
        configure(w, cloud)
        assert len(w.json("machines")) == 1
        paused = "aws is paused: no credentials were handed over since the controller started"
        assert paused in w.run("ps").stderr.decode()
        w.until(lambda: events(w, "provider.paused"), 10, "the event")

        w.run("cancel", job)
        w.until(lambda: events(w, "instance.terminate_unanswered"), 30, "the terminate to be tried")
        assert states(cloud) == ["running"]

        log_in(w, cloud, "cy")
        refused = w.run(*ON_AWS, "--", "true", check=False)
        said = (
            f"the aws machines of this controller (1 now) are of {ANN} (account {ACCOUNT}), and these credentials are"
        )
        assert (refused.returncode, said in refused.stderr.decode()) == (3, True), refused.stderr
        looked = w.run("gc", "--dry-run").stderr.decode()
        assert f"runner: aws is left out: {said}" in looked
        assert "(its machines were not looked at)" in looked
        assert (
            f"AWS: the machines of this controller are of {ANN}"
            in w.run("doctor", "--provider", "aws", check=False).stdout.decode()
        )

        log_in(w, cloud, "bob")
        told = w.run("gc").stderr.decode()
        assert f"runner: these are credentials of {BOB} (account {ACCOUNT}); the aws machines are of {ANN}" in told
        w.until(lambda: states(cloud) == ["terminated"], 30, "the machine to be ended")
        w.until(lambda: not w.json("machines"), 60, "the row to be closed")
        assert ("TerminateInstances", "AKIABOB") in cloud.signed_by
        assert len(events(w, "provider.resumed")) == 1
        assert b"paused" not in w.run("ps").stderr


def test_credentials_that_end_pause_it_and_fresh_ones_let_everything_go_on(cloud: Cloud, tmp_path: Path) -> None:
    with home(cloud, tmp_path) as w:
        log_in(w, cloud, "ann")
        w.extra |= {
            "AWS_SESSION_TOKEN": SECRET.format("a-session"),
            "AWS_CREDENTIAL_EXPIRATION": "2020-01-01T00:00:00Z",
        }
        refused = w.run(*ON_AWS, "--", "true", check=False)
        expired = (
            b"runner: the AWS credentials here have expired; `aws configure` or `aws sso login`, or name a profile"
        )
        assert (refused.returncode, refused.stderr[: len(expired)]) == (3, expired)
        del w.extra["AWS_CREDENTIAL_EXPIRATION"]
        done = w.run(*ON_AWS, "--max-lifetime", "1h", "--json", "--", "true")
        assert b"they are temporary and do not say until when" in done.stderr
        w.run("cancel", json.loads(done.stdout)["id"])
        cloud.keys["AKIAANN"].over = True
        w.until(lambda: b"aws is paused: its credentials have expired" in w.run("ps").stderr, 30, "the pause")
        del w.extra["AWS_SESSION_TOKEN"]
        log_in(w, cloud, "bob")
        job = w.submit(*ON_AWS[1:-1], "--", "true")
        assert b"paused" not in w.run("ps").stderr
        w.until(lambda: ("RunInstances", "AKIABOB") in cloud.signed_by, 30, f"the launch for {job} to begin")
