"""How an agent ends: by each of its limits, as its configuration says, and never by powering off what is not rented."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import wire
from tests.fakes.metadata import Metadata, serving

from .machine import Box, box

NEVER = 3600.0
LONG = {"boot_deadline_s": NEVER, "idle_s": NEVER, "lifetime_s": NEVER, "silence_s": NEVER, "orphan_s": NEVER}


def trap(machine: Box, folder: Path) -> Path:
    """A `poweroff` on PATH that only leaves a mark; the mark."""
    mark = folder / "powered-off"
    (folder / "bin").mkdir()
    (folder / "bin/poweroff").write_text(f"#!/bin/sh\necho off >> {mark}\n")
    (folder / "bin/poweroff").chmod(0o755)
    for other in ("shutdown", "halt", "reboot", "systemctl", "init"):
        (folder / "bin" / other).symlink_to("poweroff")
    machine.path = f"{folder}/bin:{machine.path}"
    return mark


@pytest.mark.parametrize("limit", ["idle_s", "lifetime_s", "silence_s"])
def test_each_limit_ends_an_idle_machine(tmp_path: Path, limit: str) -> None:
    with box(tmp_path, **{**LONG, limit: 0.6}, poll_s=0.1 if limit != "silence_s" else 30.0) as machine:
        child = machine.start()
        machine.controller.until(lambda: machine.controller.syncs)
        assert child.wait(20) == 0
        assert machine.said("agent.ended")


def test_a_machine_that_never_joins_ends(tmp_path: Path) -> None:
    with box(tmp_path, **{**LONG, "boot_deadline_s": 0.6}) as machine:
        machine.controller.token = "another"
        assert machine.start().wait(20) == 0
        assert "never joined" in machine.said("agent.ended")[0]["why"]


def test_what_has_passed_is_carried_over_a_kill(tmp_path: Path) -> None:
    with box(tmp_path, **{**LONG, "lifetime_s": 3.0}, poll_s=0.1) as machine:
        child = machine.start()
        machine.controller.until(lambda: (machine.state / "deadman.json").exists())
        child.kill()
        child.wait()
        assert machine.start().wait(20) == 0
        assert len(machine.said("agent.started")) == 2


def test_an_orphaned_job_is_stopped_kindly_and_the_machine_ends(tmp_path: Path) -> None:
    with box(tmp_path, **{**LONG, "orphan_s": 1.0}, hold_unsent_s=1.0, poll_s=0.2) as machine:
        c = machine.controller
        child = machine.start()
        script = f"trap 'echo > {tmp_path}/asked; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
        key = c.order(wire.Order("j1", 1, run=script))
        c.until(lambda: c.log(key).data == b"ready\n")
        c.down = True
        assert child.wait(30) == 0
        assert (tmp_path / "asked").exists()
        assert [one["attempt"] for one in machine.said("data.unconfirmed")] == ["j1/1"]
        assert machine.pids() == []


def test_end_kills_what_runs_and_leaves_by_zero(tmp_path: Path) -> None:
    with box(tmp_path) as machine:
        c = machine.controller
        child = machine.start("respawn")
        key = c.order(wire.Order("j1", 1, run="trap '' TERM; (setsid sleep 600 &); sleep 600"))
        c.until(lambda: key in c.states and c.states[key].phase == "running")
        c.finish()
        assert child.wait(30) == 0
        assert machine.pids() == []


def test_exit_never_powers_off(tmp_path: Path) -> None:
    with serving(Metadata("i-1", f"name: box-{tmp_path.name}")) as url, box(tmp_path, metadata_url=url) as machine:
        mark = trap(machine, tmp_path)
        child = machine.start()
        machine.controller.until(lambda: machine.controller.syncs)
        machine.controller.finish()
        assert child.wait(20) == 0
        assert not mark.exists()


@pytest.mark.parametrize(
    ("user_data", "id_at_end", "silent_at_end", "powers_off"),
    [
        ("ours", "i-1", False, True),
        ("ours", "i-1", True, True),
        ("ours", "i-2", False, False),
        ("someone else's", "i-1", False, False),
    ],
)
def test_poweroff_needs_our_own_identity(
    tmp_path: Path, user_data: str, id_at_end: str, silent_at_end: bool, powers_off: bool
) -> None:
    metadata = Metadata("i-1", "")
    with serving(metadata) as url, box(tmp_path, on_end="poweroff", metadata_url=url) as machine:
        metadata.user_data = f"#cloud-config\nname: {machine.name}" if user_data == "ours" else user_data
        mark = trap(machine, tmp_path)
        child = machine.start()
        known = lambda: (machine.state / "identity.json").exists() or machine.said("identity.not_ours")  # noqa: E731
        machine.controller.until(lambda: machine.controller.syncs and known())
        metadata.instance_id, metadata.silent = id_at_end, silent_at_end
        machine.controller.finish()
        assert child.wait(20) == 0
        assert mark.exists() == powers_off


def test_poweroff_without_a_metadata_service_does_nothing(tmp_path: Path) -> None:
    with box(tmp_path, on_end="poweroff", metadata_url="http://127.0.0.1:9") as machine:
        mark = trap(machine, tmp_path)
        child = machine.start()
        machine.controller.until(lambda: machine.controller.syncs)
        machine.controller.finish()
        assert child.wait(20) == 0
        assert not mark.exists()


def test_a_notice_reaches_the_controller(tmp_path: Path) -> None:
    metadata = Metadata("i-1", "")
    with serving(metadata) as url, box(tmp_path, provider="aws", metadata_url=url, poll_s=30.0) as machine:
        metadata.more["meta-data/events/recommendations/rebalance"] = '{"noticeTime": "2026-01-05T09:00:00Z"}'
        metadata.more["meta-data/spot/instance-action"] = "<html>"
        machine.start()
        c = machine.controller
        c.until(lambda: c.syncs and machine.said("machine.at_risk"))
        assert c.syncs[-1].notice == ""
        metadata.more["meta-data/spot/instance-action"] = '{"action": "terminate", "time": "2026-01-05T09:02:00Z"}'
        c.until(lambda: c.syncs[-1].notice == "the cloud will terminate it at 2026-01-05T09:02:00Z")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"instance": "i"}'])
def test_a_configuration_that_cannot_be_used_is_one_line_and_exit_2(tmp_path: Path, text: str) -> None:
    with box(tmp_path) as machine:
        (machine.state / "config.json").write_text(text)
        assert machine.start().wait(20) == 2
        assert len(machine.console.read_text().splitlines()) == 1
