"""A machine takes work only once it has been found to have the GPUs that it was rented for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent import wire
from agent.gate import errors, unfit
from agent.probes import gpus
from tests.fakes import libcuda

from .machine import Box, box
from .test_cuda import needs_gcc

T4 = {"gpu_name": "T4", "gpu_count": 1, "gpu_memory_gb": 16.0}
ROW = "Tesla T4, 550.54.15, 15360, 3, 0, 41"


def config(name: str, count: int, memory_gb: float) -> wire.AgentConfig:
    wanted: dict[str, Any] = {"gpu_name": name, "gpu_count": count, "gpu_memory_gb": memory_gb}
    return wire.AgentConfig("i1", "n", ["https://c"], "t", "exit", **wanted)


def test_a_share_of_a_computers_gpus_is_all_that_is_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        '#!/bin/sh\n[ "$1 $2" = "-i 2,3" ] && n=2 || n=4\nfor i in $(seq $n); do echo "Tesla T4, 1, 15360"; done\n'
    )
    tool.chmod(0o755)
    assert len(gpus(str(tool))) == 4
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert len(gpus(str(tool))) == 2


@pytest.mark.parametrize(
    ("rented", "found", "why"),
    [
        (("T4", 1, 16), [("Tesla T4", 15360)], ""),
        (("A10G", 4, 24), [("NVIDIA A10G", 23028)] * 4, ""),
        (("A100", 8, 40), [("NVIDIA A100-SXM4-40GB", 40536)] * 8, ""),
        (("V100", 1, 16), [("Tesla V100-SXM2-16GB", 16160)], ""),
        (("RTX-PRO-6000", 1, 96), [("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887)], ""),
        (("T4", 1, 16), [], "0 GPUs found: 1 x T4 of 16 GB was rented"),
        (("A10G", 4, 24), [("NVIDIA A10G", 23028)] * 3, "3 GPUs found: 4 x A10G of 24 GB was rented"),
        (("A10G", 1, 24), [("NVIDIA A10", 23028)], "found a NVIDIA A10: 1 x A10G of 24 GB was rented"),
        (
            ("A100", 1, 80),
            [("NVIDIA A100-SXM4-40GB", 40536)],
            "found 42.5 GB of GPU memory: 1 x A100 of 80 GB was rented",
        ),
    ],
)
def test_what_was_found_is_compared_with_what_was_rented(
    rented: tuple[str, int, float], found: list[tuple[str, float]], why: str
) -> None:
    rows = [{"name": name, "memory_mib": memory} for name, memory in found]
    assert unfit(config(*rented), rows) == why


def test_a_drivers_error_in_the_kernels_log_is_found(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    assert errors(str(log)) == ""
    log.write_text("6,1,1,-;usb 1-1: new device\n")
    assert errors(str(log)) == ""
    log.write_text("6,1,1,-;x\n4,2,2,-;NVRM: Xid (PCI:0000:00:1e): 79, pid=1, GPU has fallen off the bus.\n")
    assert errors(str(log)) == "the driver reported Xid 79 (PCI:0000:00:1e)"


def stub(machine: Box, folder: Path, script: str) -> None:
    (folder / "bin").mkdir(exist_ok=True)
    part = folder / "bin/part"
    part.write_text(f"#!/bin/sh\n{script}\n")
    part.chmod(0o755)
    part.rename(folder / "bin/nvidia-smi")
    machine.path = f"{folder}/bin:{machine.path}"


def test_a_machine_with_its_gpu_is_healthy_from_its_first_word(tmp_path: Path) -> None:
    """A driver that is still loading is waited for."""
    with box(tmp_path, **T4) as machine:
        stub(machine, tmp_path, f"test -e {tmp_path}/loaded || exit 9; echo '{ROW}'")
        first = machine.start()
        c = machine.controller
        c.until(lambda: c.nonces)
        assert c.syncs == []
        (tmp_path / "loaded").touch()
        c.until(lambda: c.syncs)
        (tmp_path / "loaded").unlink()  # as if a job had broken it: the next agent of this boot does not test it again
        first.kill()
        first.wait()
        said = len(c.syncs)
        machine.start()
        c.until(lambda: len(c.syncs) > said)
        assert all(sync.healthy for sync in c.syncs)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'NVIDIA L4, 550.54, 23034, 0, 0, 40'", "found a NVIDIA L4: 1 x T4 of 16 GB was rented"),
        ("echo 'No devices were found'; exit 6", "nvidia-smi: No devices were found"),
    ],
)
def test_a_machine_without_it_says_so(tmp_path: Path, script: str, why: str) -> None:
    with box(tmp_path, boot_deadline_s=2.0, **T4) as machine:
        stub(machine, tmp_path, script)
        machine.start()
        c = machine.controller
        c.until(lambda: c.syncs)
        assert not any(sync.healthy for sync in c.syncs)
        assert c.syncs[-1].unhealthy_why == why


@needs_gcc
def test_a_machine_whose_gpu_computes_wrongly_says_so(tmp_path: Path) -> None:
    with box(tmp_path, boot_deadline_s=8.0, **T4) as machine:
        stub(machine, tmp_path, f"echo '{ROW}'")
        machine.more = {"LD_LIBRARY_PATH": str(libcuda.compiled(tmp_path)), "STUB_CUDA": "wrong"}
        machine.start()
        c = machine.controller
        c.until(lambda: c.syncs)
        assert c.syncs[-1].unhealthy_why == "CUDA: GPU 0 gave back 1 of 1048576 bytes wrong"
