"""A forge's runner program: one that the image has, if it is exactly the one that is wanted, else fetched and verified.

Fetched programs are kept in the machine's cache under their sha256, which is compared before anything is unpacked and
each time that it is used. Each attempt gets a copy of its own, since runners write beside their program.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Callable
from urllib.parse import urljoin, urlsplit

from . import archive, child, wire
from .inputs import Cancelled, InputError, free_bytes, make_room
from .link import Refused, Unreachable
from .machine import Machine
from .programs import Program, SoftwareError, program_of

_ANSWER_S = 20.0  # arbitrary: for a program to say its version
_REDIRECTS = 5  # arbitrary
_UNPACKED = 5  # arbitrary: room that is left must be so many times the archive's size
_MOST = 2**31  # bytes, arbitrary: several times what the largest has
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_ZIP = b"PK\x03\x04"
_VERSION = re.compile(r"(?<![\w.])v?(\d+(?:\.\d+)+[\w.+~-]*)")
_STATE = shutil.ignore_patterns("_work", "_diag", ".runner*", ".credentials*", ".service", ".env", ".path")
_UNREADABLE = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, gzip.BadGzipFile, InputError)


def install(machine: Machine, order: wire.RunnerOrder, target: str, unwanted: Callable[[], bool]) -> dict[str, Any]:
    """Into the empty folder `target`; which it is and where it came from. Raises: SoftwareError, Unreachable,
    Cancelled, OSError."""
    program = program_of(order)
    facts = {"software": order.software, "version": order.version}
    for folder in order.preinstalled:
        if _is_it(machine, program, folder, order.version):
            _copy(folder, target, program)
            return {**facts, "from": folder}
    path = fetched(machine, order, unwanted)
    try:
        _unpack(path, target, program, order)
    except _UNREADABLE as error:
        raise SoftwareError(f"{order.software} {order.version} cannot be unpacked: {error}") from error
    if not os.path.isfile(os.path.join(target, program.executable)):
        raise SoftwareError(
            f"{order.software} {order.version} from {_plain(order.software_url)} has no {program.executable}"
        )
    return {**facts, "from": _plain(order.software_url), "sha256": order.sha256}


def _is_it(machine: Machine, program: Program, folder: str, version: str) -> bool:
    """Whether the program there says that it is this very version. It is asked as nobody in particular."""
    path = os.path.join(folder, program.executable)
    if not os.path.isfile(path):
        return False
    how: dict[str, Any] = {"env": {"PATH": os.defpath, "HOME": "/"}, "cwd": "/"}
    if machine.config.user:
        from .account import find

        how.update(find(machine.config.user).how(sudo=False))
    try:
        code, said = child.answer([path, "--version"], _ANSWER_S, **how)
    except (OSError, TimeoutError):
        return False
    found = _VERSION.search(said[:2000])
    return code == 0 and found is not None and found.group(1) == version.lstrip("v")


def _copy(folder: str, target: str, program: Program) -> None:
    if os.path.dirname(program.executable):
        shutil.copytree(folder, target, symlinks=True, ignore=_STATE, dirs_exist_ok=True)
        os.chmod(target, 0o700)  # nobody else's, whoever may enter the image's
    else:  # a single file, and beside it whatever else is in the image's folder
        shutil.copy2(os.path.join(folder, program.executable), target)


def fetched(machine: Machine, order: wire.RunnerOrder, unwanted: Callable[[], bool], most: int = _MOST) -> str:
    """The path of the archive in the cache, which is what it ought to be. Of one that does not say how long it is, no
    more than `most` bytes are taken. Raises: as `install`."""
    if not re.fullmatch(r"[0-9a-f]{64}", order.sha256):
        raise SoftwareError(f"{order.software} {order.version} was ordered without a sha256")
    folder = os.path.join(machine.home.cache, "software")
    path = os.path.join(folder, order.sha256)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if os.path.exists(path):
        if _digest(path) == order.sha256:
            os.utime(path)
            return path
        os.unlink(path)
    part = f"{path}.part"
    for resumed in (os.path.exists(part), False):
        whole = _download(machine, order.software_url, part, unwanted, most)
        found = _digest(part)
        if found == order.sha256:
            os.replace(part, path)
            return path
        os.unlink(part)
        if not resumed:
            break  # else it may have been changed in between: once more, from its beginning
    what = f"{order.software} {order.version} from {_plain(order.software_url)}"
    if not whole:
        raise Unreachable(f"{what} broke off, or is not what was ordered: its sha256 is {found}, not {order.sha256}")
    raise SoftwareError(f"{what} is not what was ordered: its sha256 is {found}, not {order.sha256}")


def _download(machine: Machine, url: str, part: str, unwanted: Callable[[], bool], most: int) -> bool:
    """The rest of it, after what is there already. Whether all of it came: false is that nobody can tell."""
    for _ in range(_REDIRECTS):
        have = os.path.getsize(part) if os.path.exists(part) else 0
        headers = {"user-agent": "gpu-runner-agent", **({"range": f"bytes={have}-"} if have else {})}
        try:
            with machine.link.exchange("GET", _checked(url), headers) as (head, connection):
                if head.status in (301, 302, 303, 307, 308):
                    url = urljoin(url, head.headers.get("location", ""))
                    connection.close()
                    continue
                length = head.headers.get("content-length", "")
                _room(machine, length, have)
                most = max(most, int(length)) if length.isdigit() else min(most, free_bytes(machine.home) // _UNPACKED)
                with open(part, "ab" if head.status == 206 else "wb") as file:
                    _take(connection.blocks(), file, part, most, unwanted)
                return bool(length) or "chunked" in head.headers.get("transfer-encoding", "").lower()
        except Refused as error:
            if error.status == 416 and have:  # there is no more of it, or it is another one now
                return True
            raise SoftwareError(f"{_plain(url)} answered {error}") from error
    raise SoftwareError(f"{_plain(url)} leads from one place to the next, more than {_REDIRECTS} times")


def _take(blocks: Iterator[bytes], file: BinaryIO, part: str, most: int, unwanted: Callable[[], bool]) -> None:
    """Raises: InputError once there are more than `most` bytes, none of which is kept."""
    came = 0
    for block in blocks:
        if unwanted():
            raise Cancelled
        came += len(block)
        if came > most:
            os.unlink(part)
            raise InputError(f"no room for the runner's program: it does not say how long it is, and {most} bytes came")
        file.write(block)


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)) or not parts.hostname:
        raise SoftwareError(f"{_plain(url)!r} is no https address to fetch a program from")
    return url


def _plain(url: str) -> str:
    """Without what may be a signature."""
    return url.partition("?")[0]


def _room(machine: Machine, length: str, have: int) -> None:
    """Raises: InputError when there is not enough even without what the cache can spare."""
    need = _UNPACKED * int(length) if length.isdigit() else 0
    if need > free_bytes(machine.home) and not have:
        make_room(machine.home, 0)
    if need > (free := free_bytes(machine.home)):
        raise InputError(f"no room for the runner's program: {need} bytes are needed, {free} are free")


def _digest(path: str) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            found.update(block)
    return found.hexdigest()


def _unpack(path: str, target: str, program: Program, order: wire.RunnerOrder) -> None:
    """By what it is, whatever it is called: a tar, a zip, or the program itself."""
    with open(path, "rb") as file:
        begins = file.read(len(_ZIP))
    if begins == _ZIP:
        archive.unpack_zip(path, target, order.software)
    elif tarfile.is_tarfile(path):
        archive.unpack(path, target, order.software)
    else:
        where = os.path.join(target, program.executable)
        os.makedirs(os.path.dirname(where), exist_ok=True)
        shutil.copyfile(path, where)
        os.chmod(where, 0o755)
    archive.keep_inside(target, order.software)
