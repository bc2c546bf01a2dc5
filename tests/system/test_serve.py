"""A served controller: TLS with its own authority, tokens with roles, and taking over from the embedded one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.link import Link, Refused, Unreachable
from tests.fakes.impostor import impostor
from tests.fakes.ports import free_port
from tests.system.served import served
from tests.system.world import World, world


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def remote(w: World, scheme: str, port: int, token: str, *words: str) -> subprocess.CompletedProcess[bytes]:
    extra = {"RUNNER_SERVER": f"{scheme}://localhost:{port}", "RUNNER_TOKEN": token}
    extra["RUNNER_CA"] = str(w.home / "tls" / "ca.pem") if scheme == "https" else ""
    return subprocess.run(w.command(*words), env=w.environment | extra, capture_output=True, timeout=60, check=False)


def test_a_job_over_tls_and_what_roles_may_do(w: World) -> None:
    with served(w, "--tls", "auto") as port:
        tokens = {
            role: w.run("token", "create", role, "--role", role).stdout.decode().strip()
            for role in ("viewer", "user", "admin")
        }
        done = remote(w, "https", port, tokens["user"], "run", "--no-workdir", "--", "echo", "over tls")
        assert (done.returncode, done.stdout) == (0, b"over tls\n"), done.stderr
        refused = remote(w, "https", port, tokens["viewer"], "run", "--no-workdir", "--", "true")
        assert refused.returncode == 3, refused.stderr
        assert remote(w, "https", port, tokens["viewer"], "ps", "-a").returncode == 0
        assert remote(w, "https", port, tokens["user"], "token", "ls").returncode == 3
        assert remote(w, "https", port, tokens["admin"], "token", "ls").returncode == 0
        stored = (w.home / "runner.db").read_bytes() + (w.home / "runner.db-wal").read_bytes()
        assert not any(token.encode() in stored for token in tokens.values())
        w.nothing_left()


def test_machines_of_this_computer_use_the_socket_and_others_trust_our_authority_alone(w: World) -> None:
    """So that an embedded controller that comes after this one has them as well. An impostor on the port, with a
    certificate of another authority, hears nothing of those that come from elsewhere."""
    port = free_port()
    w.home.mkdir(mode=0o700)
    (w.home / "settings.yaml").write_text(f"public_url: https://localhost:{port}\n")
    with served(w, "--tls", "auto", port=port):
        job = w.submit("--no-workdir", "--", "sh", "-c", "echo served; sleep 4; echo embedded")
        w.until(lambda: w.run("logs", job).stdout == b"served\n", 30, "the first line")
        (machine,) = w.machine_names()
        (config,) = (w.home / "machines" / machine).rglob("config.json")
        given = json.loads(config.read_text())
        assert given["urls"] == [f"unix:{w.home / 'agents.sock'}"]
        assert given["ca_pem"] == (w.home / "tls/ca.pem").read_text()
        with pytest.raises(Refused):
            Link([f"https://localhost:{port}"], given["ca_pem"]).ask("POST", "/agent/v1/join", b"{}")
    done = w.wait_done(job)
    assert (done["outcome"], done["attempts"]) == ("succeeded", 1), (done["attempts_list"], w.log())
    assert w.run("logs", job).stdout == b"served\nembedded\n"
    with impostor(w.home.parent / "other", port) as heard:
        with pytest.raises(Unreachable):
            Link([f"https://localhost:{port}"], given["ca_pem"]).ask("POST", "/agent/v1/join", b"{}")
        assert (heard.connections > 0, heard.requests) == (True, 0)
    w.nothing_left()


@pytest.mark.parametrize("url", ["ftp://here", "https://", "http://runner.example:8765", "https://here/path"])
def test_a_public_url_that_machines_could_not_use(w: World, url: str) -> None:
    w.home.mkdir(mode=0o700)
    (w.home / "settings.yaml").write_text(f"public_url: {url}\n")
    done = w.run("serve", check=False)
    assert done.returncode == 2
    assert b"settings.yaml: public_url: " in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_a_served_controller_takes_over_and_jobs_go_on(w: World) -> None:
    job = w.submit("--no-workdir", "--", "sh", "-c", "for i in $(seq 30); do echo $i; sleep 0.1; done")
    with served(w):
        done = w.wait_done(job)
        assert (done["outcome"], done["attempts"]) == ("succeeded", 1)
        assert w.run("logs", job).stdout.split() == [b"%d" % n for n in range(1, 31)]
        w.nothing_left()


def test_health_and_metrics_are_for_monitors(w: World) -> None:
    with served(w) as port:
        health = w.until(lambda: (h := _health(port))["last_pass_age_s"] is not None and h, 20, "the first pass")
        assert health["ok"]
        assert health["last_pass_age_s"] < 30
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/docs", timeout=10) as answer:
            page = answer.read().decode()
        assert "/api/v1/jobs" in page
        assert "http://" not in page.replace(f"http://127.0.0.1:{port}", "")


def test_another_address_without_tls_is_refused(w: World) -> None:
    done = w.run("serve", "--host", "0.0.0.0", check=False)
    assert done.returncode == 2
    assert b"without TLS" in done.stderr


def test_rerun_does_exactly_the_same(w: World, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "data.txt").write_text("first")
    command = ("--env", "GREETING=hello", "--workdir", str(work), "--", "sh", "-c", "echo $GREETING; cat data.txt")
    job = w.submit(*command)
    w.wait_done(job)
    (work / "data.txt").write_text("changed since")
    done = w.run("rerun", job)
    assert done.stdout == b"hello\nfirst"
    again = w.json("ps", "-a")[0]
    assert again["spec"]["rerun_of"] == job
    w.nothing_left()


@pytest.mark.system
@pytest.mark.timeout(240)
def test_an_hour_without_the_controller(tmp_path: Path) -> None:
    """At a hundredth of the constants. Past the orphan limit the agent stops the job; the next attempt resumes."""
    with world(tmp_path, scale="0.01") as w:
        work = tmp_path / "work"
        work.mkdir()
        script = (
            "mkdir -p ckpt; n=$(cat ckpt/n 2>/dev/null || echo 0); "
            "while [ $n -lt 60 ]; do n=$((n+1)); echo step $n; echo $n > ckpt/p; mv ckpt/p ckpt/n; sleep 0.2; done; "
            "sleep 36; echo end"
        )
        job = w.submit("--workdir", str(work), "--checkpoint", "ckpt:1s", "--", "sh", "-c", script)
        w.until(lambda: b"step 5\n" in w.run("logs", job).stdout, 30, "the first steps")
        (controller,) = w.pids("controller")
        os.kill(controller, signal.SIGSTOP)
        time.sleep(40)
        os.kill(controller, signal.SIGCONT)
        done = w.wait_done(job, 120)
        assert done["outcome"] == "succeeded", done
        first = w.run("logs", job, "--attempt", "1").stdout.decode().split("\n")
        steps = [line for line in first if line.startswith("step")]
        assert steps == [f"step {n}" for n in range(1, len(steps) + 1)]
        w.nothing_left()


def _health(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
        health: dict[str, Any] = json.load(answer)
        return health


def test_the_record_says_where_the_work_came_from(w: World, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@e", "-C", str(work)]
    (work / "a.txt").write_text("one\n")
    (work / "dvc.lock").write_text("schema: '2.0'\n")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    (work / "a.txt").write_text("two\n")
    job = w.submit("--workdir", str(work), "--param", "lr=0.1", "--", "cat", "a.txt")
    shown = w.wait_done(job)
    record = shown["spec"]["workspace"]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True).stdout.decode().strip()
    assert (record["commit"], record["dirty"]) == (commit, True)
    assert list(record["data_versions"]) == ["dvc.lock"]
    assert b"+two" in (w.home / "objects" / "blobs" / record["diff_sha256"]).read_bytes()
    facts = shown["attempts_list"][0]["facts"]
    assert facts["machine"]["python"]
    assert facts["timings"]["run_s"] >= 0
    assert shown["spec"]["params"] == {"lr": "0.1"}
