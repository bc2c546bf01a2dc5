"""User-data run for real: its `bootcmd` makes a machine of this computer, with `poweroff` trapped."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent import boot, wire
from provisioner.bootstrap.bundle import packed
from provisioner.bootstrap.userdata import LIMIT, user_data
from provisioner.domain.errors import InvalidRequest
from tests.fakes.controller import Controller, serving
from tests.fakes.metadata import Metadata
from tests.fakes.metadata import serving as metadata_serving

NEVER = 3600.0
LONG: dict[str, Any] = {
    "boot_deadline_s": NEVER,
    "idle_s": NEVER,
    "lifetime_s": NEVER,
    "silence_s": NEVER,
    "orphan_s": NEVER,
    "hold_unsent_s": 0.0,
}


@contextlib.contextmanager
def offering(data: Callable[[], bytes]) -> Iterator[str]:
    """A server that has agent.pyz."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = data()
            self.send_response(200 if body else 503)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/agent.pyz"
    finally:
        server.shutdown()
        server.server_close()


class Booted:
    """A computer that takes user-data as cloud-init would. `poweroff` makes `mark`, and nothing else."""

    def __init__(self, folder: Path, metadata: Metadata, metadata_url: str, controller: Controller, url: str) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.mark = folder / "powered-off"
        self.console = folder / "console.log"
        self.controller = controller
        self.name = f"runner-i-{os.getpid()}-{folder.name}"[:60]
        self._metadata = metadata
        self._metadata_url = metadata_url
        self._url = url
        trap = folder / "bin"
        trap.mkdir()
        (trap / "poweroff").write_text(f"#!/bin/sh\necho off >> {self.mark}\n")
        (trap / "poweroff").chmod(0o755)
        for other in ("shutdown", "halt", "reboot", "systemctl", "init"):
            (trap / other).symlink_to("poweroff")

    def boot(self, urls: list[str], *, startup: str = "", sha256: str = "", **limits: Any) -> None:
        config = wire.AgentConfig(
            instance="i1",
            name=self.name,
            urls=[self._url],
            join_token=self.controller.token,
            on_end="poweroff",
            poll_s=1.0,
            metadata_url=self._metadata_url,
            **{**LONG, **limits},
        )
        self._metadata.user_data = user_data(
            name=self.name,
            config=json.dumps(dataclasses.asdict(config)),
            agent_urls=urls,
            agent_sha256=sha256 or hashlib.sha256(packed()).hexdigest(),
            startup=startup,
            state=str(self.state),
        )
        self.again()

    def again(self) -> None:
        """Its boot commands, as at every boot."""
        environment = {"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "HOME": "/", "RUNNER_INSTANCE": self.name}
        for command in yaml.safe_load(self._metadata.user_data)["bootcmd"]:
            program = [sys.executable, *command[1:]]
            with self.console.open("ab") as console:
                subprocess.run(program, env=environment, stdout=console, stderr=console, check=True, timeout=20)

    def said(self, what: str) -> bool:
        return f'"what": "{what}"' in self.console.read_text()

    def pids(self) -> list[int]:
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != os.getpid():
                with contextlib.suppress(OSError):
                    if f"RUNNER_INSTANCE={self.name}".encode() in Path(f"/proc/{entry}/environ").read_bytes():
                        found.append(int(entry))
        return found

    def kill(self) -> None:
        while left := self.pids():
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Booted]:
    metadata, controller = Metadata("i-1", ""), Controller()
    with metadata_serving(metadata) as metadata_url, serving(controller, tmp_path / "c.sock") as urls:
        made = Booted(tmp_path, metadata, metadata_url, controller, urls[0])
        try:
            yield made
        finally:
            made.kill()


def until(found: Callable[[], Any], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_machine_fetches_its_agent_and_joins(machine: Booted) -> None:
    """The startup script has run before, once, however often the machine boots."""
    with offering(packed) as url:
        machine.boot([url], startup=f"echo ran >> {machine.folder}/started")
        machine.controller.until(lambda: machine.controller.syncs)
        assert (machine.folder / "started").read_text() == "ran\n"
        assert (machine.state.stat().st_mode & 0o777, (machine.state / "config.json").stat().st_mode & 0o777) == (
            0o700,
            0o600,
        )
        machine.kill()
        syncs = len(machine.controller.syncs)
        machine.again()
        machine.controller.until(lambda: len(machine.controller.syncs) > syncs)
        assert (machine.folder / "started").read_text() == "ran\n"
        assert not machine.mark.exists()


def test_its_end_is_the_agents_own(machine: Booted) -> None:
    with offering(packed) as url:
        machine.boot([url])
        machine.controller.until(lambda: machine.controller.syncs)
        until(lambda: (machine.state / "identity.json").exists())
        machine.controller.finish()
        until(machine.mark.exists)


def test_a_machine_that_finds_nobody_ends(machine: Booted) -> None:
    machine.boot(["http://127.0.0.1:9/agent.pyz"], boot_deadline_s=0.5)
    until(machine.mark.exists)
    assert machine.said("agent.not_fetched")
    assert "no agent joined within 0.5 s" in machine.console.read_text()


def test_another_agent_than_the_promised_one_is_never_run(machine: Booted) -> None:
    with offering(lambda: b"print('gotcha')") as url:
        machine.boot([url], boot_deadline_s=0.5)
        until(machine.mark.exists)
    assert "gotcha" not in machine.console.read_text()
    assert not (machine.state / "agent.pyz").exists()


def test_a_startup_script_that_fails_is_told_with_its_last_words(machine: Booted) -> None:
    """And never run again, whatever it left running."""
    with offering(packed) as url:
        machine.boot([url], startup=f"echo x >> {machine.folder}/ran; sleep 60 & echo no such mirror >&2; exit 3")
        machine.controller.until(lambda: machine.controller.syncs)
        told = machine.controller.syncs[-1]
        assert (told.healthy, told.unhealthy_code) == (False, "script-failed")
        assert told.unhealthy_why == "the startup script exited 3: no such mirror"
        assert machine.said("startup.failed")
        assert "no such mirror\n" in machine.console.read_text()
        machine.kill()
        machine.again()
        syncs = len(machine.controller.syncs)
        machine.controller.until(lambda: len(machine.controller.syncs) > syncs)
        assert not machine.controller.syncs[-1].healthy
        assert (machine.folder / "ran").read_text() == "x\n"


def test_a_computer_that_was_not_rented_is_never_powered_off(machine: Booted) -> None:
    """The metadata service says that this one was told something else."""
    told = machine._metadata
    machine.boot(["http://127.0.0.1:9/"], boot_deadline_s=0.4)
    machine.kill()
    shutil.rmtree(machine.state)
    machine.mark.unlink(missing_ok=True)
    machine.console.unlink()
    commands, told.user_data = told.user_data, "#cloud-config\n# somebody else's"
    for command in yaml.safe_load(commands)["bootcmd"]:
        environment = {"PATH": f"{machine.folder}/bin:{os.environ['PATH']}", "RUNNER_INSTANCE": machine.name}
        with machine.console.open("ab") as console:
            subprocess.run([sys.executable, *command[1:]], env=environment, stderr=console, check=True)
    until(lambda: machine.said("poweroff.refused"))
    assert not machine.mark.exists()


def _limits(**changes: float) -> dict[str, Any]:
    return {"boot_deadline_s": 600.0, "lifetime_s": 3600.0, "hold_unsent_s": 600.0, "orphan_s": 900.0, **changes}


def _note(folder: Path, name: str, **value: object) -> None:
    (folder / name).write_text(json.dumps(value))


def test_what_is_overdue_is_counted_over_reboots(tmp_path: Path) -> None:
    state, now = str(tmp_path), time.clock_gettime(time.CLOCK_BOOTTIME)
    assert boot.overdue(state, _limits(), 60.0) == ""
    _note(tmp_path, "lived.json", boot_id="an earlier one", at=5.0, lived=655.0)
    assert boot.overdue(state, _limits(), 60.0) == ""
    _note(tmp_path, "lived.json", boot_id=boot._boot_id(), at=now - 10, lived=655.0)
    assert boot.overdue(state, _limits(), 60.0) == "no agent joined within 600 s"
    _note(tmp_path, "session.json", session="s")
    assert boot.overdue(state, _limits(), 60.0) == ""
    _note(tmp_path, "lived.json", boot_id="an earlier one", at=5.0, lived=4261.0)
    assert boot.overdue(state, _limits(), 60.0) == "older than 4260 s"


def test_an_agent_that_hangs_does_not_keep_its_machine(tmp_path: Path) -> None:
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    _note(tmp_path, "session.json", session="s")
    _note(tmp_path, "deadman.json", boot_id=boot._boot_id(), at=now - 1500.0)
    assert boot.overdue(str(tmp_path), _limits(), 60.0) == ""
    _note(tmp_path, "deadman.json", boot_id=boot._boot_id(), at=now - 1570.0)
    assert boot.overdue(str(tmp_path), _limits(), 60.0) == "the agent has not moved for 1560 s"


def test_it_fits_and_says_so_when_it_does_not() -> None:
    words: dict[str, Any] = {
        "name": "runner-i-1",
        "config": "{}",
        "agent_urls": ["https://c:1/a"],
        "agent_sha256": "0" * 64,
    }
    text = user_data(**words, ca_pem="x" * 2000)
    assert text.startswith("#cloud-config\n# gpu-runner: runner-i-1\n")
    assert len(text) < LIMIT / 2
    with pytest.raises(InvalidRequest, match=f"over the limit of {LIMIT}"):
        user_data(**words, startup=os.urandom(12_000).hex())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_the_units_are_ones_that_systemd_takes(tmp_path: Path) -> None:
    paths = []
    for name, text in boot.unit_files(str(tmp_path)).items():
        (tmp_path / name).write_text(text)
        paths.append(str(tmp_path / name))
    done = subprocess.run(["systemd-analyze", "verify", *paths], capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if "gpu-runner" in line]
    assert (done.returncode, ours) == (0, [])
