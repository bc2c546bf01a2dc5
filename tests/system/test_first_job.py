"""The main job and what a newcomer does around it, with real processes and an empty home."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.world import World, world


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def test_output_and_exit_code_are_the_commands_own(w: World) -> None:
    done = w.run("run", "--no-workdir", "--", "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert done.returncode == 7
    assert done.stdout == b"out\n"
    assert b"err\n" in done.stderr
    w.nothing_left()


def test_outputs_come_back_and_verify(w: World, tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "plots").mkdir(parents=True)
    (work / "data.txt").write_text("seven")
    command = "cp data.txt plots/a.txt; echo '{}' > metrics.json; ln -s /etc/passwd plots/leak"
    job = w.submit(
        "--workdir", str(work), "--output", "plots/**", "--output", "metrics.json", "--", "sh", "-c", command
    )
    assert w.wait_done(job)["outcome"] == "succeeded"
    w.run("pull", job, str(tmp_path / "out"))
    assert (tmp_path / "out/plots/a.txt").read_text() == "seven"
    assert not (tmp_path / "out/plots/leak").exists()
    assert "plots/leak" in json.dumps(w.job(job))
    w.nothing_left()


def test_a_secret_is_nowhere_in_clear(w: World) -> None:
    secret = "correct-horse-battery"
    w.extra["MY_SECRET"] = secret
    done = w.run("run", "--no-workdir", "--secret", "MY_SECRET", "--", "sh", "-c", "echo $MY_SECRET; printf $MY_SECRET")
    assert secret.encode() not in done.stdout + done.stderr
    assert b"***" in done.stdout
    w.run("stop", "--all", check=False)
    held = subprocess.run(["grep", "-rla", secret, str(w.home)], capture_output=True, check=False).stdout
    assert held == b"", held


def test_nothing_outlives_a_job_that_forks_twice(w: World) -> None:
    script = "nohup setsid sh -c 'setsid sleep 987 & setsid sleep 987 &' >/dev/null 2>&1 & sleep 0.2; echo started"
    done = w.run("run", "--no-workdir", "--", "sh", "-c", script)
    assert done.stdout == b"started\n"
    w.nothing_left()
    assert subprocess.run(["pgrep", "-f", "^sleep 987$"], capture_output=True, check=False).stdout == b""


def test_control_c_cancels_kindly(w: World) -> None:
    script = "trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(
        w.command("run", "--no-workdir", "--", "sh", "-c", script),
        env=w.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        running.send_signal(signal.SIGINT)
        rest, errors = running.communicate(timeout=60)
    assert rest == b"asked\n"
    assert running.returncode == 130, errors
    w.nothing_left()


def test_a_second_control_c_cancels_at_once(w: World) -> None:
    script = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(
        w.command("run", "--no-workdir", "--", "sh", "-c", script),
        env=w.environment | {"RUNNER_POLICY_SCALE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        began = time.monotonic()
        running.send_signal(signal.SIGINT)
        time.sleep(0.5)
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)
    assert running.returncode == 130
    assert time.monotonic() - began < 25


def test_retries_have_a_reason_and_resume(w: World, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    script = "mkdir -p ckpt; test -f ckpt/mark && exit 0; echo 1 > ckpt/mark; sleep 0.5; exit 3"
    job = w.submit("--workdir", str(work), "--retries", "2", "--checkpoint", "ckpt:1s", "--", "sh", "-c", script)
    done = w.wait_done(job)
    assert (done["outcome"], done["attempts"]) == ("succeeded", 2)
    assert "exit 3" in w.run("why", job).stdout.decode() + w.run("events", "--job", job).stdout.decode()
    w.nothing_left()


def test_raw_bytes_come_through_untouched(w: World, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    payload = bytes(range(256)) * 40 + b"50%\r51%\r\x1b[31mred\x1b[0m\n" + os.urandom(4096) + b"L" * 3_000_000
    (work / "payload").write_bytes(payload)
    done = w.run("run", "--workdir", str(work), "--", "cat", "payload")
    assert done.stdout == payload


def test_follow_survives_a_controller_restart(w: World) -> None:
    with subprocess.Popen(
        w.command("run", "--no-workdir", "--", "sh", "-c", "for i in $(seq 40); do echo line $i; sleep 0.1; done"),
        env=w.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"line 1\n"
        w.kill("controller")
        rest, errors = running.communicate(timeout=90)
    assert rest.decode().split("\n")[:-1] == [f"line {i}" for i in range(2, 41)], errors
    assert running.returncode == 0
    w.nothing_left()


def test_a_used_machine_takes_the_next_job(w: World) -> None:
    first = w.submit("--no-workdir", "--idle-timeout", "60", "--", "true")
    w.wait_done(first)
    second = w.submit("--no-workdir", "--", "true")
    w.wait_done(second)
    used = {w.job(job)["attempts_list"][0]["instance_id"] for job in (first, second)}
    assert len(used) == 1
    for instance in w.json("machines"):
        w.run("stop", instance["id"])
    w.nothing_left()
