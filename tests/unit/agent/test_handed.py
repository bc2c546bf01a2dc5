"""A machine that was handed over: what is due when, what is on its disk, and that it needs nobody any more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import wire
from agent.config import Home
from agent.farewell import say_farewell
from agent.handed import Handed, due

from .forge import TOKEN, Forge, forge
from .machine import Box, box
from .test_runners import KEY, program, state, until_phase, wanted

ORDER = wire.HandOver(*KEY, idle_s=20.0, lifetime_s=1000.0, job_s=100.0, grace_s=10.0)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Box]:
    """One that silence ends soon, unless it was handed over."""
    with box(tmp_path, poll_s=0.3, silence_s=2.0, orphan_s=2.0, hold_unsent_s=0.5, spool_limit_bytes=2**16) as made:
        yield made


@pytest.fixture
def site() -> Iterator[Forge]:
    with forge() as made:
        yield made


@pytest.mark.parametrize(
    ("lived_s", "phase", "for_s", "stop", "how", "end"),
    [
        (5.0, "waiting", 19.0, "", "firmly", ""),
        (5.0, "waiting", 21.0, "without a job for more than 20 s", "kindly", ""),
        (5.0, "busy", 99.0, "", "firmly", ""),
        (5.0, "busy", 101.0, "its job has run for more than 100 s", "firmly", ""),
        (5.0, "done", 500.0, "", "firmly", ""),
        (1001.0, "busy", 5.0, "older than 1000 s", "firmly", ""),
        (1001.0, "waiting", 21.0, "older than 1000 s", "firmly", ""),
        (1011.0, "busy", 5.0, "", "firmly", "older than 1010 s"),
        (5.0, "", 0.0, "", "firmly", "its runner has ended"),
    ],
)
def test_what_is_due(lived_s: float, phase: str, for_s: float, stop: str, how: str, end: str) -> None:
    verdict = due(ORDER, lived_s, phase, for_s)
    assert (verdict.stop, verdict.how, verdict.end) == (stop, how, end)


def test_without_its_runner_nothing_is_acknowledged(tmp_path: Path) -> None:
    home = Home(str(tmp_path))
    home.make()
    handed = Handed(home, "exit")
    assert handed.take(ORDER, None) is False
    assert handed.over is None
    assert not (tmp_path / "handed-over.json").exists()


def handed_over(machine: Box, **limits: float) -> wire.HandOver:
    """Once its runner waits; acknowledged, and then its controller is gone."""
    c = machine.controller
    values = {"idle_s": 60.0, "lifetime_s": 600.0, "job_s": 60.0, "grace_s": 5.0, **limits}
    with c.changed:
        c.hand_over = wire.HandOver(*KEY, **values)
        c._touch()
    said: Any = c.until(lambda: c.syncs[-1].handed_over)
    assert (said.order, said.runner, said.on_end) == (c.hand_over, "runner-i1", "exit")
    kept = json.loads((machine.state / "handed-over.json").read_text())
    assert wire.decode(wire.HandedOver, json.dumps(kept["over"]).encode()) == said
    c.down = True
    return c.hand_over


def test_neither_silence_nor_a_kill_ends_it_and_its_own_limit_does(machine: Box, site: Forge) -> None:
    wanted(machine, site)
    child = machine.start()
    until_phase(machine, "waiting")
    handed_over(machine, idle_s=4.0)
    child.kill()
    child.wait()
    again = machine.start()
    assert again.wait(30) == 0
    assert machine.said("jobs.stopping")[-1]["why"] == "without a job for more than 4 s"
    assert machine.said("machine.ending")[-1]["why"] == "its runner has ended"
    assert machine.said("data.unconfirmed") == []
    assert (site.sessions, machine.pids()) == ([], [])


def test_its_job_is_served_to_the_end_though_nobody_takes_its_log(machine: Box, site: Forge) -> None:
    """More of it than the spool holds."""
    script = "while [ ! -e go ]; do sleep 0.02; done; yes | head -c 300000; exit 0"
    wanted(machine, site, runner=site.order(data=program(script)))
    child = machine.start()
    until_phase(machine, "waiting")
    handed_over(machine)
    (machine.state / "work/j1-1/go").touch()
    assert child.wait(30) == 0
    left = json.loads((machine.state / "attempts/j1-1/exit.json").read_text())
    assert (left["exit_code"], left["why"], left["log_size"]) == (0, "", 300_000)


def test_a_job_that_takes_too_long_is_cancelled_and_the_forge_told(machine: Box, site: Forge) -> None:
    wanted(machine, site)
    child = machine.start()
    until_phase(machine, "waiting")
    site.queue("sleep 984")
    until_phase(machine, "busy")
    handed_over(machine, job_s=0.5)
    assert child.wait(30) == 0
    assert machine.said("jobs.stopping")[-1]["why"] == "its job has run for more than 0.5 s"
    assert site.ended["conclusion"] == "cancelled"


def test_whoever_has_a_controller_is_asked_until_its_runner_is_there(machine: Box, site: Forge) -> None:
    """Asked too early it is not taken, and is once there is a runner."""
    c = machine.controller
    c.hand_over = wire.HandOver(*KEY, 60.0, 600.0, 60.0, 5.0)
    wanted(machine, site)
    machine.start()
    until_phase(machine, "waiting")
    c.until(lambda: c.syncs[-1].handed_over)
    first = next(sync for sync in c.syncs if sync.handed_over)
    assert first.attempts[0].runner is not None
    assert state(machine).phase == "waiting"


@pytest.mark.parametrize("alone", [True, False])
def test_gitlabs_record_is_taken_away_only_by_a_machine_that_is_alone(machine: Box, site: Forge, alone: bool) -> None:
    wanted(machine, site, "gitlab", TOKEN)
    child = machine.start()
    until_phase(machine, "waiting")
    if alone:
        handed_over(machine)
    site.queue("true")
    if alone:
        assert child.wait(30) == 0
    else:
        machine.controller.ended(KEY)
    assert (("DELETE", "/api/v4/runners") in site.asked, site.removed) == (alone, alone)
    assert TOKEN not in machine.console.read_text()


def test_only_a_runners_own_token_takes_its_record_away(site: Forge) -> None:
    url = f"{site.url}/api/v4/runners"
    assert (say_farewell(url, "token-of-another-runner"), site.removed) == ("not known there", False)
    assert (say_farewell(url, TOKEN), site.removed) == ("removed", True)
    assert say_farewell(url, TOKEN) == "not known there"


def test_a_forge_that_does_not_answer_holds_up_nobody() -> None:
    assert say_farewell("http://127.0.0.1:9/api/v4/runners", TOKEN).startswith("not reached: ")
