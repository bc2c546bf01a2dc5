"""The agent as one file: `agent.pyz`, which any Python from 3.9 runs as `python3 -I agent.pyz`.

In: the sources of the `agent` package as installed beside us. Out: the path of a zip application that is the same,
byte for byte, whenever and wherever one version of Python makes it from the same sources: entries sorted, times fixed,
nothing compressed. Providers hand it to machines; its name in the cache tells one version from another.

Beside each source lies what this Python compiles it to, which saves a machine with the same version of it most of the
agent's start; any other passes over it and compiles the source.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import marshal
import os
import tempfile
import zipfile
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

from agent import wire

NAME = "agent.pyz"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip entry can carry
_REGULAR_0644 = 0o100644 << 16
_UNIX = 3
_UNCHECKED = (1).to_bytes(4, "little")  # named by its source's hash, which nobody compares (PEP 552)
_NO_REFERENCES = 2  # the newest format of `marshal` whose bytes depend on nothing but what is written
_MAIN = b"from agent.__main__ import main\n\nraise SystemExit(main())\n"


def agent_bundle(cache: Path) -> Path:
    """`agent.pyz` in a folder of `cache` named after what it is made of; made when it is missing."""
    path = cache / f"agent-{_name()}" / NAME
    if not path.exists():
        _place(path, packed())
    return path


@functools.cache
def _name() -> str:
    """Read once: a controller ships the agent that it was started with."""
    whole = hashlib.sha256(importlib.util.MAGIC_NUMBER)
    for name, file in _files(Path(wire.__file__).parent).items():
        whole.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\0".encode())
    return whole.hexdigest()[:16]


@functools.cache
def packed() -> bytes:
    """The file's bytes."""
    return pack(Path(wire.__file__).parent)


@functools.cache
def digest() -> str:
    """The sha256 of `packed`."""
    return hashlib.sha256(packed()).hexdigest()


def pack(package: Path) -> bytes:
    """The zip of one package folder called `agent` and of a `__main__` that calls its `main`."""
    entries = {"__main__.py": _MAIN}
    for name, file in _files(package).items():
        entries |= {name: file.read_bytes(), f"{name}c": _byte_code(name, file)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(entries):
            archive.writestr(_entry(name), entries[name])
    return buffer.getvalue()


def _files(package: Path) -> dict[str, Path]:
    """Sources by their names in the zip, in order."""
    return {f"agent/{file.relative_to(package).as_posix()}": file for file in sorted(package.rglob("*.py"))}


def _byte_code(name: str, file: Path) -> bytes:
    """A `.pyc`, from the one that was kept when the source was last imported, if it was."""
    code = SourceFileLoader(name, str(file)).get_code(name)
    assert code is not None
    head = importlib.util.MAGIC_NUMBER + _UNCHECKED + importlib.util.source_hash(file.read_bytes())
    return head + marshal.dumps(_said_to_be_from(name, code), _NO_REFERENCES)


def _said_to_be_from(name: str, code: CodeType) -> CodeType:
    """Not from where it lies on this machine."""
    inner = tuple(_said_to_be_from(name, one) if isinstance(one, CodeType) else one for one in code.co_consts)
    return code.replace(co_filename=name, co_consts=inner)


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
