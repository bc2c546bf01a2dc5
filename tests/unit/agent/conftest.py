"""Each test process is a machine of its own: attempts of the same name in another one are none of its business."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from agent import workload


@pytest.fixture(scope="session", autouse=True)
def a_machine_of_ones_own() -> Iterator[None]:
    before = os.environ.get(workload.MACHINE)
    os.environ[workload.MACHINE] = f"tests-{os.getpid()}"
    yield
    if before is None:
        del os.environ[workload.MACHINE]
    else:
        os.environ[workload.MACHINE] = before
