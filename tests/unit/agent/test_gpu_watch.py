"""What befalls the GPUs while a job runs is noted with it, once, and told of; a broken GPU is the machine's end."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import wire
from agent.attempt import Attempt
from agent.config import Home
from agent.files import write_json
from agent.gpu_watch import GpuWatch
from agent.machine import Machine
from agent.probes import Heat, gpus
from agent.session import Session

from .test_restart import CONFIG

BUS = "NVRM: Xid (PCI:0000:00:1e): 79, pid=1, GPU has fallen off the bus."
FAULT = "NVRM: Xid (PCI:0000:00:1e): 31, pid=7, name=python, MMU Fault"


class Running:
    """A machine with one attempt that runs. `log` is its kernel's."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(str(folder / "state"))
        self.home.make()
        self.log = folder / "kmsg"
        self.log.write_text(f"4,1,1,-;{BUS}\n")  # from before our time: the gate's to judge
        self._next = 2
        self.again()
        self.attempt = Attempt(self.home, wire.Order("j1", 1, run="true"))
        self.attempt.create()
        write_json(f"{self.attempt.folder}/supervisor.json", {"pid": 1, "started": 0, "boot_id": "b"})
        self.attempt.look()
        self.machine.add(self.attempt)

    def again(self) -> None:
        """Another agent, as after a kill."""
        self.machine = Machine(self.home, CONFIG, [])
        self.watch = GpuWatch(self.machine, str(self.log))

    def says(self, *texts: str) -> None:
        with self.log.open("a") as file:
            for text in texts:
                file.write(f"4,{self._next},1,-;{text}\n")
                self._next += 1

    @property
    def told(self) -> list[tuple[str, str, str]]:
        sync = Session(self.machine).what_is()
        return [(one.what, one.code, one.message) for state in sync.attempts for one in state.gpu_events]


@pytest.fixture
def running(tmp_path: Path) -> Running:
    return Running(tmp_path)


def test_an_applications_error_is_told_and_the_machine_stays(running: Running) -> None:
    running.watch.look()
    assert running.told == []
    running.says("usb 1-1: new device", FAULT, FAULT)
    running.watch.look()
    assert running.told == [("xid", "31", "the driver reported Xid 31 (PCI:0000:00:1e): MMU Fault")]
    assert Session(running.machine).what_is().healthy


def test_a_gpu_that_is_gone_makes_the_machine_unhealthy_over_a_kill_of_the_agent(running: Running) -> None:
    running.says(BUS)
    running.watch.look()
    why = "the driver reported Xid 79 (PCI:0000:00:1e): GPU has fallen off the bus."
    assert running.told == [("xid", "79", f"{why}; this machine gets no other job")]
    running.again()
    assert (running.machine.unhealthy, len(running.told)) == (why, 1)
    running.watch.look()
    assert len(running.told) == 1


def test_a_boot_resets_what_was_wrong(running: Running) -> None:
    running.says(BUS)
    running.watch.look()
    write_json(running.home.file("gpu.json"), {"boot_id": "an earlier one", "position": 9, "fatal": "Xid 79"})
    running.again()
    assert running.machine.unhealthy == ""


def test_what_was_noted_is_told_with_the_end(running: Running) -> None:
    running.says(FAULT)
    running.watch.look()
    running.attempt.note(ended={"job": "j1", "number": 1, "phase": "ended", "exit_code": 1, "facts": {}})
    assert [one[1] for one in running.told] == ["31"]
    running.says(BUS)
    running.watch.look()
    assert [one[1] for one in running.told] == ["31"]


def test_heat_is_told_once_a_gpu_and_kind(running: Running, tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    script = 'case "$1" in *name*) echo "Tesla T4, 550, 15360, 3, 0, 92"; echo "Tesla T4, 550, 15360, 3, 0, 41";;'
    script += ' *clocks_throttle*) echo "Not Active, Active"; echo "Not Active, Not Active";;'
    script += (
        " *) echo 'Field \"clocks_event_reasons.hw_thermal_slowdown\" is not a valid field to query.'; exit 2;; esac"
    )
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    heat = Heat(str(tool))
    for _ in range(2):
        rows = gpus(str(tool))
        heat.add(rows)
        running.watch.hot(rows)
    assert running.told == [
        ("thermal", "software", "GPU 0 (Tesla T4) was slowed down by heat, at 92.0 C: software thermal slowdown")
    ]
    assert Session(running.machine).what_is().healthy
