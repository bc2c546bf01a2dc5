"""`runner run`: what is sent, what is shown where, and how it ends."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import tarfile
from typing import Any

import pytest

from tests.fakes.api_server import FakeApi, Script

from .terminal import Terminal, away


def sent(api: FakeApi) -> dict[str, Any]:
    (body,) = api.sent("POST", "/jobs")
    spec: dict[str, Any] = body["spec"]
    return spec


def test_output_goes_where_the_job_sent_it_and_ours_to_stderr(terminal: Terminal, api: FakeApi) -> None:
    api.script = Script(output=[(1, b"out\n"), (2, b"err\n")], files={"m.json": b"{}"}, phase_after="stopping")
    done = terminal.run("run", "--no-workdir", "--", "train")
    assert done.stdout == "out\n"
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert "err" in lines
    ours = [line for line in lines if line.startswith("runner: ")]
    for said in ("offer chosen: local", "machine i-1 is up", "setup 1.5 s", "1 output synced (2 B)", "$0.25"):
        assert any(said in line for line in ours), (said, lines)
    assert any("machine i-1 torn down" in line for line in ours)
    assert re.fullmatch(r"runner: j-\w+ succeeded \(exit 0\)", lines[-1])


@pytest.mark.parametrize(
    ("outcome", "own", "why", "code"),
    [
        ("failed", 7, "exit", 7),
        ("failed", 127, "exit", 127),
        ("timed-out", 143, "timeout", 124),
        ("cancelled", 143, "cancelled", 130),
        ("impossible", None, "impossible", 125),
        ("over-budget", None, "budget", 125),
        ("expired", None, "expired", 125),
        ("failed", None, "lost", 125),
        ("failed", 0, "outputs-failed", 125),
        ("failed", 0, "log-lost", 125),
        ("failed", 143, "log-limit", 125),
    ],
)
def test_the_exit_code_says_whose_failure_it_was(
    terminal: Terminal, api: FakeApi, outcome: str, own: int | None, why: str, code: int
) -> None:
    api.script = Script(outcome=outcome, exit_code=own, why=why, detail="in words")
    done = terminal.run("run", "--no-workdir", "--", "x")
    assert done.returncode == code
    assert re.fullmatch(rf"runner: j-\w+ {outcome} \(exit {code}\): {why}: in words", done.stderr.splitlines()[-1]), (
        done.stderr
    )


def test_options_override_the_file(terminal: Terminal, api: FakeApi) -> None:
    (terminal.folder / "job.yaml").write_text(
        "run: python a.py\nname: one\ntimeout: 1h\nenv: {A: '1', B: '1'}\nresources: {cpus: 2, memory: 4}\n"
        "outputs: [a]\n"
    )
    words = ("-f", "job.yaml", "--name", "two", "--env", "B=2", "--cpus", "8+", "--output", "b", "--spot")
    assert terminal.run("run", *words, "--checkpoint", "ckpt:30", "--", "python", "b.py", "-x").returncode == 0
    spec = sent(api)
    assert spec["run"] == ["python", "b.py", "-x"]
    assert (spec["name"], spec["timeout_s"]) == ("two", 3600.0)
    assert spec["env"] == {"A": "1", "B": "2"}
    assert spec["need"] == {"cpus": 8, "memory_gib": 4.0, "market": "spot"}
    assert spec["outputs"] == ["a", "b"]
    assert spec["checkpoint"] == {"path": "ckpt", "every_s": 30.0}


def test_the_folder_is_sent_once_per_content(terminal: Terminal, api: FakeApi) -> None:
    (terminal.folder / "train.py").write_text("print(1)\n")
    for _ in range(2):
        assert terminal.run("run", "--", "python", "train.py").returncode == 0
    (data,) = api.sent("PUT", "/blobs/")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == ["train.py"]
    workspace = api.sent("POST", "/jobs")[1]["spec"]["workspace"]
    assert (workspace["files"], workspace["size"]) == (1, len(data))


def test_the_difference_to_head_is_sent_whole(terminal: Terminal, api: FakeApi) -> None:
    named = ("-c", "user.name=n", "-c", "user.email=e@e")
    for words in (("init", "-q"), ("add", "."), (*named, "commit", "-qm", "one")):
        (terminal.folder / "a").write_bytes(b"\0one")
        subprocess.run(["git", "-C", str(terminal.folder), *words], check=True)
    found = set()
    for content in (b"\0two", b"\0three"):
        (terminal.folder / "a").write_bytes(content)
        assert terminal.run("run", "--detach", "--", "x").returncode == 0
        workspace = api.sent("POST", "/jobs")[-1]["spec"]["workspace"]
        assert workspace["diff_sha256"] in api.blobs
        found.add(workspace["diff_sha256"])
    assert len(found) == 2


def test_a_job_sees_the_callers_path_and_environment_but_not_ours(terminal: Terminal, api: FakeApi) -> None:
    terminal.extra["VIRTUAL_ENV"] = "/somewhere/venv"
    terminal.run("run", "--no-workdir", "--", "x")
    shell = sent(api)["shell_env"]
    assert shell["VIRTUAL_ENV"] == "/somewhere/venv"
    assert set(shell) == {"PATH", "VIRTUAL_ENV"}


def test_secrets_come_from_the_environment_and_the_rest_is_left_to_the_store(terminal: Terminal, api: FakeApi) -> None:
    terminal.extra["ONE"] = "hunter2hunter2"
    terminal.run("run", "--no-workdir", "--secret", "ONE", "--secret", "TWO", "--", "x")
    (body,) = api.sent("POST", "/jobs")
    assert body["secrets"] == {"ONE": "hunter2hunter2"}
    assert body["spec"]["secrets"] == ["ONE", "TWO"]


def test_detach_prints_the_id_and_says_what_a_reboot_means(terminal: Terminal, api: FakeApi) -> None:
    done = terminal.run("run", "--no-workdir", "--detach", "--", "x")
    assert re.fullmatch(r"j-\w{16}\n", done.stdout)
    assert "reboot" in done.stderr
    job_id = done.stdout.strip()
    assert json.loads(terminal.run("rerun", job_id, "--detach", "--json").stdout)["spec"]["rerun_of"] == job_id


def test_the_log_goes_on_where_it_broke(terminal: Terminal, api: FakeApi) -> None:
    payload = bytes(range(256)) * 500
    api.script = Script(output=[(1, payload[at : at + 1000]) for at in range(0, len(payload), 1000)])
    api.cut_log_every = 30_500
    with terminal.begin("run", "--no-workdir", "--", "x") as running:
        out, errors = running.communicate(timeout=30)
    assert out == payload, errors[-500:]
    assert running.returncode == 0


def test_a_reader_that_goes_away_does_not_leave_the_job_alone(terminal: Terminal, api: FakeApi) -> None:
    api.script = Script(output=[(1, b"line\n" * 50_000)] * 4, outcome="failed", exit_code=7, why="exit")
    with terminal.begin("run", "--no-workdir", "--", "x") as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == b"line\n"
        running.stdout.close()
        errors = running.stderr.read()
    assert running.returncode == 7, errors
    assert b"nobody reads the output any more" in errors


def test_json_is_the_last_line_and_says_the_exit_code(terminal: Terminal, api: FakeApi) -> None:
    api.script = Script(output=[(1, b"own\n")], outcome="timed-out", exit_code=143, why="timeout")
    done = terminal.run("run", "--no-workdir", "--json", "--", "x")
    own, told = done.stdout.splitlines()
    assert (own, json.loads(told)["exit"], json.loads(told)["outcome"]) == ("own", 124, "timed-out")
    assert done.stderr.splitlines()[-1].startswith("runner: j-")


def test_an_interruption_while_it_is_submitted_is_for_the_job(terminal: Terminal, api: FakeApi) -> None:
    api.script = Script(wait_for_cancel=True)
    api.slow_submit_s = 0.5
    with terminal.begin("run", "--no-workdir", "--", "x") as running:
        api.wait_for(lambda: api.sent("POST", "/jobs"))
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=30)
    assert running.returncode == 130, errors
    assert [job["outcome"] for job in api.jobs.values()] == ["cancelled"]


def test_a_controller_in_trouble_is_asked_again_for_the_log(terminal: Terminal, api: FakeApi) -> None:
    api.script = Script(output=[(1, b"out\n")])
    api.refuse["GET", "/jobs/[^/]+/log"] = (503, {"kind": "RunnerError", "message": "not now", "hint": ""})
    with terminal.begin("run", "--no-workdir", "--", "x") as running:
        api.wait_for(lambda: len(api.sent("GET", "/jobs/j-")) > 1)
        api.refuse.clear()
        out, errors = running.communicate(timeout=30)
    assert (out, running.returncode) == (b"out\n", 0), errors


def test_what_keeps_the_controller_from_working_is_told_once(terminal: Terminal, api: FakeApi) -> None:
    api.script = Script(wait_for_cancel=True)
    api.health = {"ok": False, "error": "engine: the database failed: database or disk is full"}
    with terminal.begin("run", "--no-workdir", "--", "x") as running:
        api.wait_for(lambda: len(api.sent("GET", "/healthz")) > 2)
        (job_id,) = api.jobs
        api.end(job_id, "succeeded", 0)
        _, errors = running.communicate(timeout=30)
    assert running.returncode == 0
    assert (
        errors.count(b"runner: the controller cannot work: engine: the database failed: database or disk is full") == 1
    )


def test_following_survives_a_controller_that_restarts(terminal: Terminal, api: FakeApi) -> None:
    api.script = Script(output=[(1, b"one\n")], wait_for_cancel=True)
    with terminal.begin("run", "--no-workdir", "--", "x") as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"one\n"
        with away(api):
            (job_id,) = api.jobs
        api.logs[job_id].append((1, b"two\n"))
        api.end(job_id, "succeeded", 0)
        rest, errors = running.communicate(timeout=30)
    assert (rest, running.returncode) == (b"two\n", 0), errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_cancels_kindly_and_follows_on(
    terminal: Terminal, api: FakeApi, number: signal.Signals
) -> None:
    api.script = Script(output=[(1, b"ready\n")], wait_for_cancel=True)
    with terminal.begin("run", "--no-workdir", "--", "x") as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        running.send_signal(number)
        _, errors = running.communicate(timeout=30)
    assert running.returncode == 130, errors
    assert api.sent("POST", "/jobs/j-") == [{"now": False}]
    assert b"asking it to end" in errors


def test_a_second_interruption_ends_it_at_once(terminal: Terminal, api: FakeApi) -> None:
    api.script = Script(output=[(1, b"ready\n")], wait_for_cancel=True, why="deaf to kind words")
    with terminal.begin("run", "--no-workdir", "--", "x") as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        running.send_signal(signal.SIGINT)
        api.wait_for(lambda: api.sent("POST", "/jobs/j-"))
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=30)
    assert running.returncode == 130
    assert api.sent("POST", "/jobs/j-") == [{"now": False}, {"now": True}]


def test_a_job_whose_controller_is_lost_for_good_is_not_said_to_be_refused(terminal: Terminal, api: FakeApi) -> None:
    api.script = Script(wait_for_cancel=True)
    process = terminal.begin("run", "--no-workdir", "--", "x")
    api.wait_for(lambda: any(path.endswith("/log") for _, path, _ in api.asked))
    (terminal.home / "settings.yaml").write_text("max_instances: many\n")  # so that no other one starts
    api.stop()
    _, stderr = process.communicate(timeout=60)
    api.start()
    (job,) = api.jobs
    last = stderr.decode().splitlines()[-1]
    assert process.returncode == 125
    assert last.startswith("runner: the embedded controller did not start; ")
    assert last.endswith(f"; {job} goes on: `runner logs -f {job}` shows it later")
    (terminal.home / "controller.log").unlink()  # of the one that could not start
