"""A full spool or disk makes the job wait; it ends nothing and loses nothing, and it is on record."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provisioner.bootstrap.bundle import packed
from tests.fakes.disk import small_disk

from .supervised import Attempt, Place, place, until

MIB = 2**20
WRITE = "import os\nfor i in range(40):\n v = memoryview(b'%07d\\n' % i * 65536)\n while v: v = v[os.write(1, v):]"
WHOLE = b"".join(b"%07d\n" % i * 65536 for i in range(40))


@pytest.fixture
def pyz(tmp_path: Path) -> list[str]:
    (tmp_path / "agent.pyz").write_bytes(packed())
    return [sys.executable, "-I", str(tmp_path / "agent.pyz")]


@pytest.fixture
def here(tmp_path: Path, pyz: list[str]) -> Iterator[Place]:
    with place(tmp_path, pyz) as made:
        yield made


def events(one: Attempt) -> list[dict[str, Any]]:
    path = one.folder / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_full_spool_slows_the_job_down_with_an_event(here: Place) -> None:
    one = here.attempt([sys.executable, "-c", WRITE], spool_limit=9 * MIB).start()
    until(lambda: events(one))
    assert [event["what"] for event in events(one)] == ["log.waits"]
    assert json.loads((one.folder / "state.json").read_text())["waits_for"] == "spool"
    assert sum(path.stat().st_size for path in (one.folder / "spool").iterdir()) <= 9 * MIB
    ended = one.ended()
    assert bytes(one.data) == WHOLE
    assert (ended["exit_code"], ended["why"]) == (0, "")
    assert ended["timings"]["waited_for_spool_s"] > 0
    assert [event["what"] for event in events(one)][:2] == ["log.waits", "log.goes_on"]


def test_a_job_that_waits_for_room_can_be_cancelled(here: Place) -> None:
    one = here.attempt([sys.executable, "-c", WRITE], spool_limit=9 * MIB).start()
    until(lambda: events(one))
    one.control("now")
    until(lambda: not one.living())
    assert one.ended()["why"] == "cancelled"
    assert WHOLE.startswith(bytes(one.data))


def test_a_full_disk_pauses_the_job_and_loses_nothing(tmp_path: Path, pyz: list[str]) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, 12 * MIB) as mounted:
        if not mounted:
            pytest.skip("this machine lets nobody mount a tmpfs")
        with place(disk, pyz) as here:
            one = here.attempt([sys.executable, "-c", WRITE]).start()
            ballast = disk / "ballast"
            until(lambda: (one.folder / "supervisor.json").exists())
            until(lambda: _full(ballast))
            read = one.reader.size()
            assert not (one.folder / "exit.json").exists()
            ballast.unlink()
            ended = one.ended()
            assert bytes(one.data) == WHOLE
            assert len(one.data) > read
            assert (ended["exit_code"], ended["why"]) == (0, "")
            assert ended["timings"]["waited_for_disk_s"] > 0
            assert {"log.waits", "log.goes_on"} <= {event["what"] for event in events(one)}


def _full(ballast: Path) -> bool:
    """Add to it until the disk takes no more."""
    try:
        with ballast.open("ab", buffering=0) as file:
            return (file.write(bytes(4096)) or 0) < 4096
    except OSError:
        return True
