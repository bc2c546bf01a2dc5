"""Small files that are whole or absent."""

from __future__ import annotations

import json
import os
from typing import Any, Optional


def write_json(path: str, value: dict[str, Any], durable: bool = False) -> None:
    """Replace `path`; with `durable`, on the disk before it returns."""
    part = f"{path}.part"
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(value, file)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(part, path)


def read_json(path: str) -> Optional[dict[str, Any]]:
    """None when it is absent or not an object."""
    try:
        with open(path) as file:
            value = json.load(file)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
