"""Jobs on a cloud whose machines boot: a real EC2 API server, real user-data, real agents, nothing left."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import booting, ec2
from tests.fakes.booting import BootingCloud
from tests.fakes.ports import free_port, listening
from tests.fakes.trouble import Trouble
from tests.system.test_kills import check_log, check_results
from tests.system.world import World, world

pytestmark = pytest.mark.skipif(bool(booting.missing()), reason=booting.missing() or "it can")
ON_AWS = ("--provider", "aws", "--gpu", "T4", "--no-workdir")


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[BootingCloud]:
    with ec2.cloud(tmp_path) as api, booting.booting(api, tmp_path / "hosts") as made:
        yield made
        assert api.lacked == []


@contextlib.contextmanager
def controlled(
    cloud: BootingCloud, folder: Path, *, dialled: bool = True, aws: str = "", more: str = "", **policy: float
) -> Iterator[World]:
    """A controller that the cloud's hosts reach, under TLS of its own; or else one that goes to them over SSH. `aws` is
    more of that cloud's settings, `more` another line of all."""
    port = free_port()
    environment = {
        "AWS_ENDPOINT_URL": cloud.cloud.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    image = cloud.cloud.images["us-east-1/x86_64"]
    with world(folder, extra=environment) as w:
        w.home.mkdir(mode=0o700)
        lines = [
            f"public_url: '{f'https://{cloud.gateway}:{port}' if dialled else ''}'",
            f"aws: {{enabled: true, regions: [us-east-1], image: {image}, ssh_from: {cloud.gateway}/32{aws}}}",
            f"policy: {{{', '.join(f'{name}: {value}' for name, value in policy.items())}}}",
            more,
        ]
        (w.home / "settings.yaml").write_text("\n".join(lines))
        with serving_again(w, cloud, port):
            yield w


@contextlib.contextmanager
def serving_again(w: World, cloud: BootingCloud, port: int = 0) -> Iterator[None]:
    """A controller in this world, where it was before; whoever is killed meanwhile is not missed."""
    port = port or int((w.home.parent / "port").read_text())
    (w.home.parent / "port").write_text(str(port))
    w.until(lambda: not listening(port, cloud.gateway), 20, "the one before to be dead")
    words = ("serve", "--host", cloud.gateway, "--port", str(port), "--tls", "auto")
    with (w.home.parent / "serve.log").open("ab") as log:
        running = subprocess.Popen(w.command(*words), env=w.environment, stdout=log, stderr=log)
    try:
        w.until(lambda: listening(port, cloud.gateway), 60, "the port to open")
        yield
    finally:
        running.terminate()
        running.wait(30)


def instances(cloud: BootingCloud) -> list[str]:
    """States of all that were ever launched."""
    import boto3

    found = []
    for region in ec2.REGIONS:
        for one in boto3.client("ec2", region_name=region).describe_instances()["Reservations"]:
            found += [row["State"]["Name"] for row in one["Instances"]]
    return found


def test_a_job_from_launch_to_gone(cloud: BootingCloud, tmp_path: Path) -> None:
    with controlled(cloud, tmp_path) as w:
        script = "cat /proc/1/comm; echo made > out.txt; echo done"
        job = w.submit(*ON_AWS, "--output", "out.txt", "--", "sh", "-c", script)
        done = w.wait_done(job)
        assert (done["outcome"], done["attempts"]) == ("succeeded", 1), (done, w.log())
        assert w.run("logs", job).stdout.endswith(b"done\n")
        w.run("pull", job, str(tmp_path / "pulled"))
        assert (tmp_path / "pulled/out.txt").read_text() == "made\n"
        planned = [one["message"] for one in w.json("events", "--job", job) if one["what"] == "instance.planned"]
        assert re.fullmatch(r"aws use1-az\d g4dn\.\w+ spot \$0\.\d+/h", planned[0]), planned
        w.until(lambda: not w.json("machines"), 60, "the machine to be gone")
        assert instances(cloud) == ["terminated"]
        booting.until(lambda: not cloud.hosts, "the host to end")
        assert len(cloud.ended) == 1


@pytest.mark.system
def test_the_answer_to_the_launch_is_lost_and_the_controller_killed(cloud: BootingCloud, tmp_path: Path) -> None:
    """One machine, one attempt: what was launched is found again by its name."""
    with controlled(cloud, tmp_path) as w:
        cloud.cloud.troubles.append(Trouble("RunInstances", lose=True))
        job = w.submit(*ON_AWS, "--", "echo", "once")
        booting.until(lambda: cloud.cloud.asked("RunInstances"), "the launch")
        w.kill("controller")
        with serving_again(w, cloud):
            done = w.wait_done(job)
            assert (done["outcome"], done["attempts"]) == ("succeeded", 1), (done, w.log())
            w.until(lambda: not w.json("machines"), 60, "the machine to be gone")
        assert instances(cloud) == ["terminated"]


@pytest.mark.system
def test_machines_that_never_call_home_are_ended_and_replaced(cloud: BootingCloud, tmp_path: Path) -> None:
    """Cut off from the network, or dead: and what the first of them printed last is told to whoever asks why."""
    with controlled(cloud, tmp_path, boot_timeout_s=6.0, console_s=3.0) as w:
        cloud.cut_off = True
        job = w.submit(*ON_AWS, "--", "echo", "at last")
        booting.until(lambda: instances(cloud).count("terminated") == 1, "the first to be ended")
        cloud.boots = False
        booting.until(lambda: instances(cloud).count("terminated") == 2, "the second to be ended")
        cloud.boots, cloud.cut_off = True, False
        assert w.wait_done(job)["outcome"] == "succeeded"
        w.until(lambda: not w.json("machines"), 60, "the machines to be gone")
        assert set(instances(cloud)) == {"terminated"}
        (told,) = [one for one in w.json("events", "--job", job) if one["what"] == "instance.console"]
        assert told["message"] == "boot-timeout: the agent was never heard; the last it printed"
        line = next(line for line in told["data"]["lines"] if "agent.not_fetched" in line)
        why = w.run("why", job).stdout.decode().splitlines()
        assert f"{told['instance_id']} never came to work: {told['message']}:" in why
        assert f"  | {line}" in why
        assert "jt_" not in str(told)


@pytest.mark.system
def test_a_job_whose_machine_is_taken_twice_goes_on_from_its_checkpoint(cloud: BootingCloud, tmp_path: Path) -> None:
    """And what each interruption came to is known: its first hour is not billed, and some work is lost."""
    role = "arn:aws:iam::123456789012:role/gpu-runner-limit"
    more = f", hard_limit: true, hard_limit_role: '{role}'"
    with controlled(cloud, tmp_path, aws=more, console_s=3.0) as w:
        work = tmp_path / "work"
        work.mkdir()
        (work / "steps.py").write_text(Path(__file__).with_name("steps.py").read_text())
        words = ("--provider", "aws", "--gpu", "T4", "--spot", "--workdir", str(work))
        job = w.submit(
            *words, "--output", "result.txt", "--checkpoint", "ckpt:1s", "--", "python3", "steps.py", "14", "0.7"
        )
        for number in (1, 2):
            mine = f"attempt {number} step".encode()
            w.until(
                lambda n=number, m=mine: m in w.run("logs", job, "--attempt", str(n), check=False).stdout, 60, "work"
            )
            time.sleep(3.0)
            (host,) = cloud.hosts.values()
            booting.until(lambda n=number: len(cloud.cloud.asked("CreateSchedule")) == n, "its hard limit")
            cloud.take(host)
        done = w.wait_done(job)
        assert (done["outcome"], done["attempts"]) == ("succeeded", 3), (done, w.log())
        check_log(w, job, done, 14)
        check_results(w, job, tmp_path / "pulled", 14)
        resumed = [
            int(m[1]) for m in re.finditer(r"attempt (\d) step", w.run("logs", job, "--attempt", "3").stdout.decode())
        ]
        assert 0 < len(resumed) < 14
        w.until(lambda: not w.json("machines"), 60, "the machines to be gone")
        assert set(instances(cloud)) == {"terminated"}
        check_interruptions(w, job, done)
        w.until(lambda: len(cloud.cloud.asked("DeleteSchedule")) == 3, 20, "the hard limits to be lifted")
        assert len(cloud.cloud.asked("CreateSchedule")) == 3


def check_interruptions(w: World, job: str, done: dict[str, Any]) -> None:
    first, second, third = (one["interruption"] for one in done["attempts_list"])
    assert third is None
    for one in (first, second):
        assert (one["first_hour"], one["by_cloud"], one["unbilled"]) == (True, True, True), one
        assert 0 < one["lost_s"] < one["lived_s"], one
    assert w.run("show", job).stdout.count(b"(in its first hour), which are not billed, lost ") == 2
    assert w.run("why", job).stdout.count(b"of work since its newest checkpoint\n") == 2
    taken_off = [one for one in w.json("events") if one["what"] == "charge.adjusted"]
    assert [one["instance_id"] for one in taken_off] == [one["instance_id"] for one in done["attempts_list"][:2]]
    assert all(-1 < float(one["data"]["usd"]) < 0 for one in taken_off), taken_off


@pytest.mark.system
def test_a_machine_without_its_gpu_is_replaced(cloud: BootingCloud, tmp_path: Path) -> None:
    """It is given no work, its offer is remembered, and the user is told."""
    with controlled(cloud, tmp_path) as w:
        cloud.gpu = ""
        job = w.submit(*ON_AWS, "--", "echo", "on a GPU")
        booting.until(lambda: "terminated" in instances(cloud), "the first to be ended")
        cloud.gpu = "Tesla T4, 550.54.15, 15360, 3, 0, 41"
        done = w.wait_done(job)
        assert (done["outcome"], done["attempts"]) == ("succeeded", 1), (done, w.log())
        told = [one["message"] for one in w.json("events") if one["what"] == "instance.stopping"]
        assert told[0] == "unhealthy: nvidia-smi: No devices were found", told
        w.until(lambda: not w.json("machines"), 60, "the machines to be gone")
        assert set(instances(cloud)) == {"terminated"}


@pytest.mark.system
def test_a_notice_gives_the_job_time_to_leave(cloud: BootingCloud, tmp_path: Path) -> None:
    """It is asked kindly, what it then writes is its checkpoint, and the next machine goes on from there."""
    with controlled(cloud, tmp_path) as w:
        script = (
            "mkdir -p ckpt; cat ckpt/left 2>/dev/null; "
            "trap 'echo left in time > ckpt/left; exit 9' TERM; test -e ckpt/left || while :; do sleep 0.1; done"
        )
        words = ("--provider", "aws", "--gpu", "T4", "--no-workdir", "--checkpoint", "ckpt:1h")
        job = w.submit(*words, "--", "sh", "-c", f"echo begun; {script}")
        w.until(lambda: w.run("logs", job).stdout == b"begun\n", 60, "it to begin")
        (host,) = cloud.hosts.values()
        host.say("meta-data/spot/instance-action", '{"action": "terminate", "time": "2026-01-05T09:02:00Z"}')
        done = w.wait_done(job)
        assert (done["outcome"], done["attempts"]) == ("succeeded", 2), (done, w.log())
        assert w.run("logs", job, "--attempt", "2").stdout == b"begun\nleft in time\n"
        left = done["attempts_list"][0]
        assert left["reason"]["why"] == "preempted", done["attempts_list"]
        assert left["interruption"]["lost_s"] < 1.0, left["interruption"]
        happened = [one["what"] for one in w.json("events")]
        assert happened.index("instance.planned", 4) < happened.index("attempt.ended"), happened
        w.until(lambda: not w.json("machines"), 60, "the machines to be gone")
        assert set(instances(cloud)) == {"terminated"}


@pytest.mark.system
def test_without_its_controller_every_machine_ends_itself(cloud: BootingCloud, tmp_path: Path) -> None:
    """In the stated time, having said on its console what it could not deliver."""
    limits = {"agent_silence_s": 4.0, "orphan_s": 4.0, "hold_unsent_s": 3.0}
    with controlled(cloud, tmp_path, **limits) as w:
        job = w.submit(*ON_AWS, "--output", "out.txt", "--", "sh", "-c", "echo made | tee out.txt; sleep 600")
        w.until(lambda: w.run("logs", job).stdout == b"made\n", 60, "it to begin")
        w.kill("controller")
        booting.until(lambda: "terminated" in instances(cloud), "the machine to end itself")
    (host,) = cloud.ended
    assert '"what": "data.unconfirmed"' in host.console
    assert '"what": "machine.powering_off"' in host.console
