"""Logs larger than memory should ever hold: byte-identical at the viewer, bounded at both ends."""

from __future__ import annotations

import contextlib
import hashlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.world import World, world

MIB = 2**20


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, scale="1") as made:
        yield made


def peak_mib(pid: int) -> float:
    """The most memory that the process has held."""
    with contextlib.suppress(OSError):
        match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        if match:
            return int(match[1]) / 1024
    return 0.0


def stream(w: World, script: str) -> tuple[str, int, dict[str, float]]:
    """Digest and size of what an attached run shows, and the peak memory of each role in MiB."""
    digest, size = hashlib.sha256(), 0
    peaks: dict[str, float] = {}
    with subprocess.Popen(
        w.command("run", "--no-workdir", "--", "sh", "-c", script), env=w.environment, stdout=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        seen = 0
        while data := running.stdout.read(MIB):
            digest.update(data)
            size += len(data)
            if size - seen > 64 * MIB or not peaks:
                seen = size
                for role in ("controller", "agent", "supervisor"):
                    for pid in w.pids(role):
                        peaks[role] = max(peaks.get(role, 0.0), peak_mib(pid))
                peaks["viewer"] = max(peaks.get("viewer", 0.0), peak_mib(running.pid))
    assert running.returncode == 0
    return digest.hexdigest(), size, peaks


def test_a_single_line_of_fifty_megabytes(w: World) -> None:
    size = 50_000_000
    digest, seen, _ = stream(w, f"head -c {size} /dev/zero | tr '\\0' L")
    assert seen == size
    assert digest == hashlib.sha256(b"L" * size).hexdigest()


@pytest.mark.system
@pytest.mark.timeout(900)
def test_two_gibibytes_with_bounded_memory(w: World) -> None:
    size = 2 * 2**30
    digest, seen, peaks = stream(w, f"head -c {size} /dev/zero")
    expected = hashlib.sha256()
    for _ in range(size // MIB):
        expected.update(bytes(MIB))
    assert (seen, digest) == (size, expected.hexdigest())
    print(f"peak memory in MiB: {peaks}")
    assert max(peaks.values()) < 400, peaks
