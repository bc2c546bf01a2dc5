"""The people's API as its own OpenAPI description has it."""

from __future__ import annotations

from collections.abc import Iterator


def described() -> Iterator[tuple[str, str, str]]:
    raise NotImplementedError
