"""The agent as one file: `agent.pyz`, which any Python from 3.9 runs as `python3 -I agent.pyz`.

In: the sources of the `agent` package as installed beside us. Out: the path of a zip application that is the same,
byte for byte, whenever and wherever it is made from the same sources: entries sorted, times fixed, nothing compressed.
Providers hand it to machines; its name in the cache tells one version from another.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import tempfile
import zipfile
from pathlib import Path

from agent import wire

NAME = "agent.pyz"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip entry can carry
_REGULAR_0644 = 0o100644 << 16
_UNIX = 3
_MAIN = b"from agent.__main__ import main\n\nraise SystemExit(main())\n"


def agent_bundle(cache: Path) -> Path:
    """`agent.pyz` in a folder of `cache` named after its digest; made when it is missing."""
    data = packed()
    path = cache / f"agent-{hashlib.sha256(data).hexdigest()[:16]}" / NAME
    if not path.exists():
        _place(path, data)
    return path


@functools.cache
def packed() -> bytes:
    """The file's bytes. Read once: a controller ships the agent that it was started with."""
    return pack(Path(wire.__file__).parent)


def pack(package: Path) -> bytes:
    """The zip of one package folder called `agent` and of a `__main__` that calls its `main`."""
    entries = {f"agent/{file.relative_to(package).as_posix()}": file.read_bytes() for file in package.rglob("*.py")}
    entries["__main__.py"] = _MAIN
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(entries):
            archive.writestr(_entry(name), entries[name])
    return buffer.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.external_attr = _REGULAR_0644
    entry.create_system = _UNIX
    return entry


def _place(path: Path, data: bytes) -> None:
    """All of it or nothing, however many controllers do it at once."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    number, part = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(number, "wb") as file:
        file.write(data)
    os.replace(part, path)
