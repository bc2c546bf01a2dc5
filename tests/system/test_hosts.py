"""Jobs on computers that somebody already has, behind real OpenSSH servers: added, used, silent, clean again."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.fakes import sshd
from tests.system.world import World, world

pytestmark = pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing() or "it is there")
ON_IT = ("--provider", "hosts", "--no-workdir")


@dataclass
class Box:
    """A host, and a world whose user can log in to it. `folder` is where its machines are."""

    w: World
    server: sshd.Server
    folder: Path
    home: Path

    def add(self, *words: str) -> dict[str, object]:
        added: dict[str, object] = self.w.json("hosts", "add", "box", "--folder", str(self.folder), *words)
        return added


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """`ssh box` works for the user, by a configuration of his own."""
    root = os.geteuid() == 0
    with sshd.serving(tmp_path / "sshd", own_users=root) as server, tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        bin_ = tmp_path / "bin"
        bin_.mkdir()
        (tmp_path / "config").write_text(
            f"Host box\n HostName 127.0.0.1\n Port {server.port}\n User {server.user}\n"
            f" IdentityFile {tmp_path}/sshd/mine\n UserKnownHostsFile {tmp_path}/known\n"
        )
        (tmp_path / "known").write_text(f"[127.0.0.1]:{server.port} {server.host_key}\n")
        (bin_ / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {tmp_path}/config "$@"\n')
        (bin_ / "ssh").chmod(0o755)
        with world(tmp_path, extra={"PATH": f"{bin_}:{os.environ['PATH']}"}) as w:
            w.home.mkdir(mode=0o700)  # asking a host takes seconds here, and is not scaled down with the rest
            (w.home / "settings.yaml").write_text("policy: {terminate_again_s: 15, console_s: 10}\n")
            yield Box(w, server, Path(folder), tmp_path)


def admit(box: Box) -> None:
    """What `hosts add` does over the user's SSH, where the server has a file of its own for it."""
    key = box.w.run("hosts", "key").stdout.decode().strip()
    with (box.server.folder / "authorized").open("a") as file:
        file.write(f"{key}\n")


def test_a_job_on_a_host_of_ones_own(box: Box) -> None:
    w = box.w
    admit(box)
    told = box.add("--name", "attic", "--host-key", box.server.host_key, "--usd-per-hour", "0.10")
    assert (told["id"], told["taken"], told["trouble"]) == ("attic", 0, "")
    script = "id -un; echo made > out.txt; sleep 2; echo done"
    job = w.submit(*ON_IT, "--output", "out.txt", "--", "sh", "-c", script)
    w.until(lambda: w.run("logs", job).stdout, 60, "it to begin")
    (machine,) = w.json("machines")
    assert machine["offer"]["scope"] == "hosts:attic"
    if os.geteuid() == 0:
        shell = w.run("ssh", machine["id"], "--", "echo", "it is me")
        assert shell.stdout == b"it is me\n"
    done = w.wait_done(job)
    assert (done["outcome"], done["attempts"]) == ("succeeded", 1), (done, w.log())
    user = b"gpu-runner-0" if os.geteuid() == 0 else box.server.user.encode()
    assert w.run("logs", job).stdout == user + b"\ndone\n"
    w.run("pull", job, str(box.home / "pulled"))
    assert (box.home / "pulled/out.txt").read_text() == "made\n"
    w.until(lambda: not w.json("machines"), 60, "the machine to be gone")
    assert list((box.folder / "gpu-runner/machines").glob("[!.]*")) == []
    assert (
        subprocess.run(["pgrep", "-f", f"{box.folder}/gpu-runner/machines"], capture_output=True, check=False).stdout
        == b""
    )
    (listed,) = w.json("hosts", "ls")
    assert (listed["id"], listed["taken"]) == ("attic", 0)
    w.run("hosts", "rm", "attic")
    assert w.json("hosts", "ls") == []


def test_what_is_wrong_with_a_host_is_one_line(box: Box) -> None:
    w = box.w
    for words, code, said in (
        (("nobody@nowhere.invalid",), 3, b"cannot log in to nobody@nowhere.invalid"),
        (("box", "--name", "no such"), 2, b"not a name of a host"),
        (("box", "--name", "a", "--host-key", "ssh-ed25519 AAAA"), 3, b"host a:"),
        (("-oProxyCommand=x",), 2, b""),
    ):
        done = w.run("hosts", "add", *words, check=False)
        assert done.returncode == code, done.stderr
        assert said in done.stderr
        assert done.stderr.count(b"\n") == 1
    missing = w.run("hosts", "rm", "attic", check=False)
    assert (missing.returncode, missing.stderr.count(b"\n")) == (2, 1)


@pytest.mark.system
def test_what_a_machine_printed_that_never_came_to_work_is_kept(box: Box) -> None:
    """Its host is said to have a GPU, and has none."""
    w = box.w
    admit(box)
    box.add("--name", "attic", "--host-key", box.server.host_key, "--gpu", "T4")
    job = w.submit(*ON_IT, "--gpu", "T4", "--", "true")
    told = w.until(lambda: b"never came to work" in (said := w.run("why", job).stdout) and said, 60, "its console")
    printed = [line for line in told.decode().splitlines() if line.startswith("  | ")]
    assert any("agent.started" in line for line in printed), told
    w.run("cancel", job)
    w.until(lambda: not w.json("machines"), 60, "the machine to be gone")


@pytest.mark.system
def test_a_host_that_drops_off_comes_back_to_what_it_did(box: Box) -> None:
    """Its job goes on meanwhile, no slot is free, and nothing of the log is lost."""
    w = box.w
    (w.home / "settings.yaml").write_text("policy: {terminate_again_s: 15, console_s: 10, silence_s: 60}\n")
    admit(box)
    box.add("--name", "attic", "--host-key", box.server.host_key)
    job = w.submit(*ON_IT, "--", "sh", "-c", "for i in $(seq 60); do echo $i; sleep 0.1; done")
    w.until(lambda: w.run("logs", job).stdout.startswith(b"1\n"), 60, "it to begin")
    silence(box.server)
    w.until(lambda: w.json("hosts", "ls")[0]["trouble"], 30, "it to be missed")
    with sshd.serving(box.server.folder, port=box.server.port, own_users=os.geteuid() == 0):
        done = w.wait_done(job)
        assert (done["outcome"], done["attempts"]) == ("succeeded", 1), (done, w.log())
        assert w.run("logs", job).stdout.split() == [b"%d" % n for n in range(1, 61)]
        w.until(lambda: not w.json("machines"), 60, "the machine to be gone")


@pytest.mark.system
@pytest.mark.timeout(300)
def test_a_host_that_never_comes_back_loses_its_job_and_is_given_up(box: Box, tmp_path: Path) -> None:
    """Once its agent must have stopped the job by itself, another host does it. Given up, it keeps nothing; come back
    all the same, it comes back clean."""
    w = box.w
    limits = "terminate_again_s: 15, silence_s: 4, orphan_s: 6, drain_s: 4, hold_unsent_s: 1"
    (w.home / "settings.yaml").write_text(f"policy: {{{limits}}}\n")
    admit(box)
    box.add("--name", "attic", "--host-key", box.server.host_key)
    job = w.submit(*ON_IT, "--", "sh", "-c", "echo $RUNNER_ATTEMPT; [ $RUNNER_ATTEMPT = 2 ] || sleep 600")
    w.until(lambda: w.run("logs", job).stdout == b"1\n", 60, "it to begin")
    with (
        sshd.serving(tmp_path / "other", own_users=os.geteuid() == 0) as other,
        tempfile.TemporaryDirectory() as folder,
    ):
        Path(folder).chmod(0o711)
        key = w.run("hosts", "key").stdout.decode()
        with (other.folder / "authorized").open("a") as file:
            file.write(key)
        login = f"{other.user}@127.0.0.1"
        (tmp_path / "config").write_text(f"Port {other.port}\n")
        w.run("hosts", "add", login, "--name", "cellar", "--host-key", other.host_key, "--folder", folder)
        silence(box.server)
        done = w.wait_done(job, 120)
        ended = [one["reason"]["why"] for one in done["attempts_list"]]
        assert (done["outcome"], ended) == ("succeeded", ["lost", "exit"]), (done, w.log())
        w.until(lambda: len(w.json("machines")) == 1, 60, "the second machine to be gone")
        (left,) = w.json("machines")
        assert (left["offer"]["zone"], left["phase"]) == ("attic", "stopping")
        refused = w.run("hosts", "rm", "attic", check=False)
        assert (refused.returncode, refused.stderr.count(b"\n")) == (3, 1)
        assert b"runner hosts rm --force attic" in refused.stderr
        forced = w.run("hosts", "rm", "--force", "attic")
        assert forced.stderr.startswith(f"closed unconfirmed: {left['id']}; ".encode())
        w.until(lambda: not w.json("machines"), 60, "its row to be closed")
        assert [host["id"] for host in w.json("hosts", "ls")] == ["cellar"]
        (told,) = [event for event in w.json("events") if event["what"] == "host.given_up"]
        assert told["data"]["instances"] == [left["id"]]
    mark = f"respawn {box.folder}"
    w.until(lambda: subprocess.run(["pgrep", "-f", mark], capture_output=True, check=False).returncode, 60, "its end")
    assert list((box.folder / "gpu-runner/machines").glob("[!.]*")) != []
    with sshd.serving(box.server.folder, port=box.server.port, own_users=os.geteuid() == 0):
        (tmp_path / "config").write_text(f"Host box\n HostName 127.0.0.1\n Port {box.server.port}\n")
        w.run("hosts", "rm", "cellar")
        box.add("--name", "attic", "--host-key", box.server.host_key)
        w.until(lambda: w.json("hosts", "ls")[0]["taken"] == 0, 60, "what it left there to be collected")
        assert list((box.folder / "gpu-runner/machines").glob("[!.]*")) == []


def silence(server: sshd.Server) -> None:
    """Every connection to it is cut, and none is taken any more."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    server.process.terminate()
    server.process.wait(10)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
