"""What the units' text means for a job when its agent is restarted, and for a machine that boots again.

systemd itself is not here: a stand-in reads the text and does what it says.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent import boot, wire
from provisioner.bootstrap.bundle import packed
from provisioner.bootstrap.userdata import user_data
from tests.fakes import systemd
from tests.fakes.controller import Controller, serving
from tests.fakes.metadata import Metadata
from tests.fakes.metadata import serving as metadata_serving

from .test_userdata import LONG, offering, until

RUN = "gpu-runner-run.service"
needs_root = pytest.mark.skipif(bool(systemd.missing()), reason=systemd.missing() or "it can")


class Machine:
    """A host whose user-data was taken, not booted yet."""

    def __init__(self, folder: Path, controller: Controller, **limits: Any) -> None:
        self.controller = controller
        self.state = folder / "state"
        self.mark = folder / "powered-off"
        self._folder = folder
        self._limits = limits

    def prepare(self, controller_url: str, metadata: Metadata, metadata_url: str, agent_url: str) -> None:
        config = wire.AgentConfig(
            instance="i1",
            name=f"box-{os.getpid()}-{self._folder.name}",
            urls=[controller_url],
            join_token=self.controller.token,
            on_end="poweroff",
            poll_s=1.0,
            metadata_url=metadata_url,
            **{**LONG, **self._limits},
        )
        metadata.user_data = user_data(
            name=config.name,
            config=json.dumps(dataclasses.asdict(config)),
            agent_urls=[agent_url],
            agent_sha256=hashlib.sha256(packed()).hexdigest(),
            state=str(self.state),
        )
        environment = {"HOME": "/", "RUNNER_INSTANCE": config.name}
        self.host = systemd.Host(self._folder, yaml.safe_load(metadata.user_data)["bootcmd"], environment)
        trap = self._folder / "bin/poweroff"
        trap.write_text(f"#!/bin/sh\necho off >> {self.mark}\n")
        trap.chmod(0o755)

    def starts(self) -> int:
        return self.host.console.count('"what": "agent.started"')


@contextlib.contextmanager
def machine(folder: Path, **limits: Any) -> Iterator[Machine]:
    metadata, controller = Metadata("i-1", ""), Controller()
    made = Machine(folder, controller, **limits)
    with (
        metadata_serving(metadata) as metadata_url,
        serving(controller, folder / "c.sock") as urls,
        offering(packed) as agent_url,
    ):
        made.prepare(urls[0], metadata, metadata_url, agent_url)
        try:
            yield made
        finally:
            made.host.halt()


def begun(at: Machine) -> tuple[str, int]:
    """A job that says that it runs, waits for a file `go`, and says so."""
    wait = f"while ! test -e {at.state.parent}/go; do sleep 0.05; done"
    key = at.controller.order(wire.Order("j1", 1, run=f"echo begun; {wait}; echo went on"))
    at.controller.until(lambda: at.controller.log(key).data == b"begun\n")
    return key


@pytest.mark.system
@needs_root
@pytest.mark.parametrize("how", ["restart", "kill"])
def test_a_job_survives_its_agents_restart(tmp_path: Path, how: str) -> None:
    with machine(tmp_path) as at:
        at.host.boot()
        key = begun(at)
        at.host.systemctl(how, RUN)
        until(lambda: at.starts() == 2)
        (tmp_path / "go").touch()
        at.controller.until(lambda: key in at.controller.states and at.controller.states[key].phase == "ended")
        assert at.controller.states[key].exit_code == 0
        assert at.controller.log(key).data == b"begun\nwent on\n"
        assert len(set(at.controller.nonces)) == 1


@pytest.mark.system
@needs_root
def test_it_would_not_without_kill_mode_process(tmp_path: Path) -> None:
    """The stand-in does what the text says, and the job's survival hangs on that line."""
    with machine(tmp_path) as at:
        at.host.boot()
        key = begun(at)
        unit = tmp_path / "units" / RUN
        unit.write_text(unit.read_text().replace("KillMode=process\n", ""))
        at.host.systemctl("daemon-reload")
        at.host.systemctl("restart", RUN)
        until(lambda: at.starts() == 2)
        at.controller.until(lambda: key in at.controller.states and at.controller.states[key].phase == "ended")
        assert (at.controller.states[key].why, at.controller.states[key].detail) == ("cancelled", "asked to end")
        assert at.controller.log(key).data == b"begun\n"


@pytest.mark.system
@needs_root
def test_after_a_reboot_everything_runs_again_and_limits_carry_over(tmp_path: Path) -> None:
    with machine(tmp_path, lifetime_s=14.0) as at:
        at.host.boot()
        key = begun(at)
        first = json.loads((at.state / "lived.json").read_text())["boot_id"]
        until(lambda: json.loads((at.state / "deadman.json").read_text())["lived"] > 9.0)
        at.host.halt()
        at.host.boot()
        began = time.monotonic()
        at.controller.until(lambda: key in at.controller.states and at.controller.states[key].phase == "ended")
        assert at.controller.states[key].why == "supervisor-lost"
        until(at.mark.exists)
        assert time.monotonic() - began < 10.0
        assert json.loads((at.state / "lived.json").read_text())["boot_id"] != first
        assert "older than 14 s" in at.host.console


def test_what_the_stand_in_does_not_know_it_refuses(tmp_path: Path) -> None:
    for text in boot.unit_files(str(tmp_path)).values():
        assert systemd.parsed(text)["KillMode"] == "process"
    with pytest.raises(ValueError, match="does not know 'Delegate=yes'"):
        systemd.parsed("[Service]\nDelegate=yes\n")
