"""What the driver's library does with a little work, as the gate sees it."""

from __future__ import annotations

import ctypes.util
import sys
from pathlib import Path

import pytest

from agent import cuda
from tests.fakes import libcuda

needs_gcc = pytest.mark.skipif(bool(libcuda.missing()), reason=libcuda.missing() or "there is gcc")
PROGRAM = [sys.executable, "-m", "agent"]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return libcuda.compiled(tmp_path_factory.mktemp("driver"))


@pytest.mark.parametrize(
    ("stub", "gpus", "fault", "record"),
    [
        ("", 2, "", "2 computed"),
        ("", 1, "CUDA: it sees 2 GPUs, and 1 were rented", "failed"),
        ("wrong", 2, "CUDA: GPU 0 gave back 1 of 1048576 bytes wrong", "failed"),
        ("error", 2, "CUDA: cuCtxCreate answered 46 (CUDA_ERROR_DEVICE_UNAVAILABLE)", "failed"),
        ("hangs", 2, "CUDA: no answer within 0.8 s", "failed"),
        ("dies", 2, "CUDA: the test died of -6", "failed"),
    ],
)
@needs_gcc
def test_what_the_library_does_is_judged(
    driver: Path, monkeypatch: pytest.MonkeyPatch, stub: str, gpus: int, fault: str, record: str
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(driver))
    monkeypatch.setenv("STUB_CUDA", stub)
    monkeypatch.setenv("STUB_GPUS", "2")
    assert cuda.try_out(PROGRAM, gpus, 0.8 if stub == "hangs" else 30.0) == (fault, record)


@pytest.mark.skipif(ctypes.util.find_library("cuda") is not None, reason="there is a driver's library here")
def test_without_the_library_nothing_is_tried_and_that_is_said() -> None:
    assert cuda.try_out(PROGRAM, 1) == ("", "not checked: there is no libcuda.so.1")
