"""Bad input: one clear line, the right exit code, and nothing lost."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.ports import free_port, listening
from tests.system.world import World, world


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def refused(w: World, code: int, said: str, *words: str, extra: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        w.command(*words), env=w.environment | (extra or {}), capture_output=True, timeout=90, check=False
    )
    ours = [line for line in done.stderr.decode().splitlines() if line.startswith("runner: ")]
    assert done.returncode == code, done.stderr.decode()
    assert said in ours[-1], ours
    assert "Traceback" not in done.stderr.decode()


def test_an_unknown_gpu(w: World) -> None:
    refused(w, 2, "unknown GPU 'H1000'; did you mean H100", "run", "--gpu", "H1000", "--no-workdir", "--", "true")
    assert not w.home.exists()


def test_a_gpu_that_nobody_here_has(w: World) -> None:
    refused(w, 3, "H100", "run", "--gpu", "H100", "--no-workdir", "--", "true")
    refused(w, 2, "no provider 'mars' here; known: local", "run", "--provider", "mars", "--no-workdir", "--", "true")
    assert w.json("ps", "-a") == []


def test_malformed_yaml_with_its_line(w: World, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("run: x\noutputs: [a\n")
    refused(w, 2, f"{path}:3: malformed YAML", "run", "-f", str(path))


def test_a_missing_secret(w: World) -> None:
    refused(w, 2, "HF_TOKEN", "run", "--no-workdir", "--secret", "HF_TOKEN", "--", "true")
    assert w.json("ps", "-a") == []


def test_a_secret_too_short_to_mask(w: World) -> None:
    refused(w, 2, "shorter than 6", "run", "--no-workdir", "--secret", "S", "--", "true", extra={"S": "abc"})


def test_an_output_outside_the_workspace(w: World) -> None:
    refused(w, 2, "outside the workspace", "run", "--no-workdir", "--output", "../x", "--", "true")


def test_no_output_matched(w: World) -> None:
    refused(w, 125, "no file matched 'model.bin'", "run", "--no-workdir", "--output", "model.bin", "--", "true")


def test_a_command_that_is_not_there(w: World) -> None:
    done = w.run("run", "--no-workdir", "--", "no-such-command", check=False)
    assert done.returncode == 127
    assert b"command not found: no-such-command" in done.stderr


def test_a_tree_over_the_limit(w: World, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    with (work / "huge").open("wb") as file:
        file.truncate(2 * 2**30)
    refused(w, 2, "over the limit", "run", "--workdir", str(work), "--", "true")


def test_a_taken_port(w: World) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(w, 2, "the port is taken", "serve", "--port", str(port))


def test_a_wrong_token(w: World) -> None:
    port = free_port()
    server = subprocess.Popen(
        w.command("serve", "--port", str(port)), env=w.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        w.until(lambda: (w.home / "control.sock").exists(), 20, "the server")
        remote = {"RUNNER_SERVER": f"http://127.0.0.1:{port}"}
        w.until(lambda: listening(port), 20, "the port")
        refused(w, 3, "token", "ps", extra=remote | {"RUNNER_TOKEN": "rt_wrong"})
        token = w.run("token", "create", "me").stdout.decode().strip()
        done = subprocess.run(
            w.command("ps", "--json"),
            env=w.environment | remote | {"RUNNER_TOKEN": token},
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout.strip()) == (0, b"[]"), done.stderr
    finally:
        server.terminate()
        server.communicate(timeout=30)
    assert server.returncode == 0


def test_nobody_at_the_server(w: World) -> None:
    refused(w, 4, "no controller at", "ps", extra={"RUNNER_SERVER": "http://127.0.0.1:1"})


def test_a_database_newer_than_the_code(w: World) -> None:
    w.run("ps")
    w.kill("controller")
    w.until(lambda: not w.pids("controller"), 10, "the controller to die")
    with sqlite3.connect(w.home / "runner.db") as database:
        database.execute("update alembic_version set version_num = '9999'")
    refused(w, 4, "newer than this program", "ps")
    refused(w, 3, "newer than this program", "db", "upgrade")
    with sqlite3.connect(w.home / "runner.db") as database:
        assert database.execute("select version_num from alembic_version").fetchone() == ("9999",)


def test_a_corrupt_database(w: World) -> None:
    w.run("ps")
    w.kill("controller")
    w.until(lambda: not w.pids("controller"), 10, "the controller to die")
    for name in ("runner.db-wal", "runner.db-shm"):
        (w.home / name).unlink(missing_ok=True)
    (w.home / "runner.db").write_bytes(b"not a database at all" * 100)
    refused(w, 4, "database", "ps")


def test_malformed_settings(w: World) -> None:
    w.home.mkdir()
    (w.home / "settings.yaml").write_text("max_instances: many\n")
    refused(w, 4, "max_instances", "ps")
    refused(w, 2, "max_instances", "serve", "--port", "0")


def test_an_unknown_command(w: World) -> None:
    refused(w, 2, "did you mean logs?", "log", "x")


def test_an_unknown_job(w: World) -> None:
    refused(w, 2, "no job 'j-nothing'", "show", "j-nothing")
