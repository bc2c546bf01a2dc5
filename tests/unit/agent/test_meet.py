"""What a controller runs on a rented machine over SSH: in any order, again, and never behind a running agent's back."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent import meet

needs_keys = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen here")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "boot.json").write_text(json.dumps({"urls": [], "sha256": "of another version", "startup": "x"}))
    return tmp_path


@needs_keys
def test_the_machine_makes_one_key_however_often_it_is_met(state: Path) -> None:
    (state / "host_key.part").write_text("an attempt that broke off")
    first = meet.meet(str(state))
    assert first.startswith("ssh-ed25519 ")
    assert meet.meet(str(state)) == first
    assert (state / "host_key").stat().st_mode & 0o077 == 0


def test_the_agent_that_was_brought_is_the_one_to_run(state: Path) -> None:
    assert not meet.has_agent(str(state))
    meet.take(str(state), b"an agent")
    assert meet.has_agent(str(state))
    boot = json.loads((state / "boot.json").read_text())
    assert boot == {"urls": [], "sha256": hashlib.sha256(b"an agent").hexdigest(), "startup": "x"}


@needs_keys
def test_settling_shows_the_new_key_and_wakes_the_server(state: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc/ssh").mkdir(parents=True)
    (root / "run").mkdir()
    public = meet.meet(str(state))
    waits = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); print(flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", waits], stdout=-1) as one:
        assert one.stdout is not None
        one.stdout.readline()
        (root / "run/sshd.pid").write_text(f"{one.pid}\n")
        if os.path.isdir("/run/systemd/system"):
            pytest.skip("here systemd would be asked to reload this computer's own server")
        meet.settle(str(state), str(root))
        assert one.wait(10) == -signal.SIGHUP
    assert (root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().startswith(public)
    assert (root / "etc/ssh/ssh_host_ed25519_key").stat().st_mode & 0o077 == 0
