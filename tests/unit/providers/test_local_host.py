"""What the driver's tool says becomes an offer's GPU."""

from __future__ import annotations

import pytest

from provisioner.domain.gpu import Gpu, parse_gpu, satisfies
from provisioner.domain.gpu import from_driver as parse


@pytest.mark.parametrize(
    ("answer", "gpu"),
    [
        ("", None),
        ("Tesla T4, 15360\n", Gpu("T4", 1, 16)),
        ("NVIDIA A10G, 23028\nNVIDIA A10G, 23028\n", Gpu("A10G", 2, 24)),
        ("NVIDIA A100-SXM4-80GB, 81920\n", Gpu("A100", 1, 80)),
        ("NVIDIA H200, 143771\n", Gpu("H200", 1, 141)),
    ],
)
def test_the_tools_answer_is_read(answer: str, gpu: Gpu | None) -> None:
    assert parse(answer) == gpu


def test_what_is_read_satisfies_a_request_by_name() -> None:
    assert satisfies(parse("Tesla T4, 15360\n"), parse_gpu("t4"))
