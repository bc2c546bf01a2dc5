"""Small files that are whole or absent."""

from __future__ import annotations

import errno
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


def content(path: str) -> str:
    """A file's text; "" when it cannot be read."""
    if not os.access(path, os.R_OK):  # cheaper than the exception that it nearly always would be
        return ""
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def append_line(path: str, line: str) -> None:
    """A whole line or none. Raises: OSError."""
    data = line.encode() + b"\n"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size = os.fstat(file).st_size
        if os.write(file, data) < len(data):
            os.ftruncate(file, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(file)
