"""A controller opens as many files as it may, and gives a part of them to logs."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from provisioner.app.open_files import logs_open, raise_limit


@pytest.fixture(autouse=True)
def hard() -> Iterator[int]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_soft_limit_is_raised_to_the_hard_one(hard: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    raise_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(hard, 65536), hard)


@pytest.mark.parametrize(("soft", "logs"), [(16, 4), (64, 8), (1024, 128), (4096, 256)])
def test_logs_take_a_quarter_at_most(hard: int, soft: int, logs: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert logs_open() == logs
