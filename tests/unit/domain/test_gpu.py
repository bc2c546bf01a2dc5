"""What people, drivers and clouds call GPUs, and what is meant by it."""

from __future__ import annotations

import pytest

from provisioner.domain.errors import InvalidRequest
from provisioner.domain.gpu import Gpu, GpuNeed, nominal_gb, parse_gpu, recognise, satisfies


@pytest.mark.parametrize(
    ("text", "need", "shown"),
    [
        ("t4", GpuNeed(name="T4"), "T4"),
        ("A10G:4", GpuNeed(4, "A10G"), "A10G:4"),
        ("tesla-v100", GpuNeed(name="V100"), "V100"),
        ("A100-80GB:2", GpuNeed(2, "A100", 80), "A100-80GB:2"),
        ("v100-32gb", GpuNeed(name="V100", min_memory_gb=32), "V100-32GB"),
        ("RTX-PRO-6000", GpuNeed(name="RTX-PRO-6000"), "RTX-PRO-6000"),
        (">= 24GB", GpuNeed(min_memory_gb=24), ">=24GB"),
        ("compute>=8.0:2", GpuNeed(2, min_compute=8.0), "compute>=8.0:2"),
    ],
)
def test_a_request_is_read_and_said_again(text: str, need: GpuNeed, shown: str) -> None:
    assert parse_gpu(text) == need
    assert str(need) == shown
    assert parse_gpu(shown) == need


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A10O", "did you mean A10"),
        ("A100-60GB", "A100-40GB or A100-80GB"),
        ("T4:0", "1 to 64"),
        ("T4:x", "NAME"),
        ("", "NAME"),
    ],
)
def test_what_is_no_gpu_is_refused_with_what_would_be(text: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_gpu(text)
    assert words in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("shown", "model"),
    [
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("Tesla T4", "T4"),
        ("T4g", "T4G"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA L40S", "L40S"),
        ("RTX PRO Server 6000", "RTX-PRO-6000"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX-PRO-6000"),
        ("NVIDIA GeForce GTX 1080", "GeForce"),
    ],
)
def test_what_a_driver_or_a_cloud_calls_it(shown: str, model: str) -> None:
    assert recognise(shown) == model


@pytest.mark.parametrize(
    ("name", "mib", "gb"),
    [
        ("A10G", 22888, 24),
        ("A10G", 23028, 24),
        ("T4", 15360, 16),
        ("A100", 81920, 80),
        ("A100", 40960, 40),
        ("H200", 143771, 141),
        ("L4", 5722, 6),
        ("L40S", 45776, 48),
        ("B300", 275040, 288),
        ("Unheard", 10240, 11),
    ],
)
def test_memory_is_what_its_vendor_calls_it(name: str, mib: float, gb: float) -> None:
    assert nominal_gb(name, mib) == gb


def test_a_slice_of_a_gpu_is_not_that_gpu() -> None:
    """Yet it has the memory and the compute capability that may have been asked for."""
    eighth = Gpu("L4", 1, 3)
    assert not satisfies(eighth, parse_gpu("L4"))
    assert satisfies(eighth, parse_gpu("compute>=8.0"))
    assert satisfies(Gpu("A100", 8, 80), parse_gpu("A100-80GB:8"))
    assert not satisfies(Gpu("A100", 8, 40), parse_gpu("A100-80GB"))
