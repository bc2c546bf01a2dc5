"""One served web a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .served import Served, serve


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[Served]:
    served = await serve(tmp_path)
    try:
        yield served
    finally:
        await served.close()
