"""Archives, unpacked so that nothing lands outside of the folder that they are unpacked into."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator
from typing import IO, NamedTuple, Optional

from .inputs import InputError

_BLOCK = 2**20


class Member(NamedTuple):
    """`source` is a file's content, `link` where a symbolic link leads; a folder has neither."""

    name: str
    mode: int = 0o755
    source: Optional[IO[bytes]] = None
    link: str = ""
    mtime: Optional[float] = None


def unpack(path: str, target: str, what: str = "workspace") -> None:
    """A tar into an empty folder. Links are made last, so that nothing is written through one. Raises: InputError."""
    _place(_of_tar(path, what), target, what)


def unpack_zip(path: str, target: str, what: str) -> None:
    """The same of a zip. Raises: InputError."""
    _place(_of_zip(path), target, what)


def keep_inside(target: str, what: str) -> None:
    """Raises: InputError when a link in it leads out of it."""
    root = os.path.realpath(target) + os.sep
    for folder, folders, files in os.walk(target):
        for name in (*folders, *files):
            full = os.path.join(folder, name)
            if os.path.islink(full) and not (os.path.realpath(full) + os.sep).startswith(root):
                raise InputError(f"{what}: the link {os.path.relpath(full, target)!r} leads out of it")


def _place(members: Iterator[Member], target: str, what: str) -> None:
    links = []
    for member in members:
        where = os.path.join(target, _checked(member.name, what))
        os.makedirs(os.path.dirname(where), exist_ok=True)
        if member.link:
            links.append((member.link, where))
        elif member.source is None:
            os.makedirs(where, exist_ok=True)
        else:
            with member.source as source, open(where, "wb") as file:
                while block := source.read(_BLOCK):
                    file.write(block)
            os.chmod(where, (member.mode & 0o777) | stat.S_IRUSR | stat.S_IWUSR)
            if member.mtime is not None:
                os.utime(where, (member.mtime, member.mtime))
    for link, where in links:
        os.symlink(link, where)


def _of_tar(path: str, what: str) -> Iterator[Member]:
    import tarfile

    with tarfile.open(path) as archive:
        for one in archive:
            if one.isdir():
                yield Member(one.name)
            elif one.issym():
                yield Member(one.name, link=one.linkname)
            elif one.isreg() or one.islnk():
                source = archive.extractfile(one)
                if source is None:
                    raise InputError(f"{what}: {one.name!r} cannot be read")
                yield Member(one.name, one.mode, source, mtime=one.mtime)
            else:
                raise InputError(f"{what}: {one.name!r} is neither file, folder nor link")


def _of_zip(path: str) -> Iterator[Member]:
    import zipfile

    with zipfile.ZipFile(path) as archive:
        for one in archive.infolist():
            mode = one.external_attr >> 16
            if one.is_dir():
                yield Member(one.filename)
            elif stat.S_ISLNK(mode):
                yield Member(one.filename, link=archive.read(one).decode("utf-8", "surrogateescape"))
            else:
                yield Member(one.filename, mode & 0o777 or 0o644, archive.open(one))


def _checked(name: str, what: str) -> str:
    clean = posixpath.normpath(name)
    if clean == ".." or clean.startswith(("/", "../")) or "\0" in name:
        raise InputError(f"{what}: {name!r} lies outside of it")
    return clean
