"""Machines that cannot dial their controller: it comes to them over SSH, by keys that serve once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from provisioner.bootstrap.shell import OpenSsh
from provisioner.domain.errors import HostKeyMismatch, LoginRefused
from provisioner.domain.shell import Login
from tests.fakes import booting, ec2, sshd
from tests.fakes.booting import BootingCloud
from tests.system.test_aws import ON_AWS, controlled, instances, serving_again
from tests.system.world import world

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(bool(booting.missing()), reason=booting.missing() or "it can"),
    pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing() or "it is there"),
]


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[BootingCloud]:
    with ec2.cloud(tmp_path) as api, booting.booting(api, tmp_path / "hosts") as made:
        yield made


def let_in() -> set[str]:
    """Who may come in by SSH, of all groups there."""
    groups = boto3.client("ec2", region_name="us-east-1").describe_security_groups()["SecurityGroups"]
    rules = [rule for group in groups for rule in group["IpPermissions"] if rule.get("FromPort") == 22]
    return {one["CidrIp"] for rule in rules for one in rule["IpRanges"]}


def planted(cloud: BootingCloud) -> tuple[str, str]:
    """What somebody who has read the user-data knows: the host key's two halves."""
    import json

    (host,) = cloud.hosts.values()
    told = json.loads((host.folder / "cloud.json").read_text())["ssh_keys"]
    return told["ed25519_private"], told["ed25519_public"]


def test_a_job_on_a_machine_that_cannot_dial(cloud: BootingCloud, tmp_path: Path) -> None:
    with controlled(cloud, tmp_path, dialled=False) as w:
        job = w.submit(*ON_AWS, "--output", "out.txt", "--", "sh", "-c", "echo made | tee out.txt; sleep 6")
        w.until(lambda: w.run("logs", job).stdout == b"made\n", 90, "it to begin")
        assert let_in() == {f"{cloud.gateway}/32"}
        (host,) = cloud.hosts.values()
        _, public = planted(cloud)
        with pytest.raises(HostKeyMismatch):
            asyncio.run(_connect(Login(host.address, host_keys=(public,))))
        own = (host.folder / "ssh/etc/ssh/ssh_host_ed25519_key.pub").read_text()
        assert own.split()[1] not in public
        with pytest.raises(LoginRefused):
            asyncio.run(_connect(Login(host.address, host_keys=(own,), key=sshd_key(tmp_path))))
        done = w.wait_done(job)
        assert (done["outcome"], done["attempts"]) == ("succeeded", 1), (done, w.log())
        w.run("pull", job, str(tmp_path / "pulled"))
        assert (tmp_path / "pulled/out.txt").read_text() == "made\n"
        w.until(lambda: not w.json("machines"), 60, "the machine to be gone")
        w.until(lambda: not let_in(), 30, "the door to be shut")
        assert instances(cloud) == ["terminated"]


def test_from_a_laptop_with_nothing_but_credentials(cloud: BootingCloud, tmp_path: Path) -> None:
    """No server, no address, nothing enabled: the command's own credentials, in memory, and SSH."""
    environment = {
        "AWS_ENDPOINT_URL": cloud.cloud.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test-secret-of-a-laptop",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with world(tmp_path, extra=environment) as w:
        w.home.mkdir(mode=0o700)
        image = cloud.cloud.images["us-east-1/x86_64"]
        aws = f"aws: {{regions: [us-east-1], image: {image}, ssh_from: {cloud.gateway}/32}}"
        (w.home / "settings.yaml").write_text(aws)
        words = (*ON_AWS, "--output", "out.txt", "--max-lifetime", "1h")
        done = w.run("run", *words, "--", "sh", "-c", "echo made | tee out.txt", timeout_s=110)
        assert done.stdout == b"made\n", done.stderr
        assert b"first use of aws account" in done.stderr
        w.until(lambda: not w.json("machines"), 60, "the machine to be gone")
        assert instances(cloud) == ["terminated"]
        w.until(lambda: not let_in(), 30, "the door to be shut")
        secret = b"test-secret-of-a-laptop"
        assert [path for path in w.home.rglob("*") if path.is_file() and secret in path.read_bytes()] == []


def test_the_controller_is_killed_and_its_successor_finds_its_way(cloud: BootingCloud, tmp_path: Path) -> None:
    with controlled(cloud, tmp_path, dialled=False) as w:
        job = w.submit(*ON_AWS, "--", "sh", "-c", "for i in $(seq 40); do echo $i; sleep 0.25; done")
        w.until(lambda: w.run("logs", job).stdout.startswith(b"1\n"), 90, "it to begin")
        w.kill("controller")
        with serving_again(w, cloud):
            done = w.wait_done(job)
            assert (done["outcome"], done["attempts"]) == ("succeeded", 1), (done, w.log())
            assert w.run("logs", job).stdout.split() == [b"%d" % n for n in range(1, 41)]
            w.until(lambda: not w.json("machines"), 60, "the machine to be gone")
            w.until(lambda: not let_in(), 30, "the door to be shut")


async def _connect(login: Login) -> None:
    async with OpenSsh().connect(login):
        pass


def sshd_key(folder: Path) -> str:
    sshd.new_key(folder / "stranger")
    return (folder / "stranger").read_text()
