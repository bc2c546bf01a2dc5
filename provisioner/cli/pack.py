"""Packing the working directory: what git tracks, and what it neither tracks nor ignores; sent once per content.

The archive is deterministic (sorted, no times, no owners), so that equal trees have equal digests. Sizes are summed
before a byte is read. git is asked twice, both at once: what it tracks, and how the tree stands beside that.
"""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from . import render
from .amounts import shown_size
from .client import Client, refusal
from .failures import CliError
from .ignore import Ignore

LIMIT = 2**30
IGNORE_FILE = ".runnerignore"
_IN_MEMORY = 8 * 2**20  # archives up to here need no file; arbitrary
_BLOCK = 2**20
# Set inside hooks, where they would lead git to another tree than the one that was named.
_MISLEADING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")


@dataclass(frozen=True)
class Tree:
    """What goes into the archive: paths relative to `top`, and where they came from."""

    top: Path
    files: tuple[str, ...]
    folders: tuple[str, ...]
    size: int
    commit: str = ""
    branch: str = ""
    dirty: bool = False


@dataclass
class _Known:
    """What git says of a tree: names to send, and folders that it ignores. `names` None: it is in no repository."""

    names: list[str] | None = None
    ignored: set[str] = field(default_factory=set)
    commit: str = ""
    branch: str = ""
    dirty: bool = False


def look(top: Path, *, large: bool = False) -> Tree:
    """Raises: CliError when it is no folder, or over the limit, naming the largest entries."""
    if not top.is_dir():
        raise CliError(f"{top} is not a folder", "--workdir names the folder to send, --no-workdir sends none")
    try:
        rules = Ignore((top / IGNORE_FILE).read_text(errors="replace"))
    except FileNotFoundError:
        rules = Ignore("")
    known = _git(top)
    walked, empty = _walk(top, rules, known)
    names = walked if known.names is None else known.names
    sizes = {name: size for name in names if (size := _size(top / name)) is not None and not rules.file(name)}
    total = sum(sizes.values())
    if total > LIMIT and not large:
        raise CliError(
            f"{top} is {shown_size(total)}, over the limit of {shown_size(LIMIT)}; largest: {_largest(sizes)}",
            f"leave files out with {IGNORE_FILE}, bring data with `inputs`, or add --large",
        )
    return Tree(top, tuple(sorted(sizes)), tuple(sorted(empty)), total, known.commit, known.branch, known.dirty)


def pack(tree: Tree, target: IO[bytes]) -> tuple[str, int]:
    """Write the archive; its sha256 and size. Raises: CliError when a file cannot be read, or changes meanwhile."""
    hashing = _Hashing(target)
    with tarfile.open(fileobj=hashing, mode="w|", bufsize=_BLOCK, format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
        for name in tree.folders:
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
        for name in tree.files:
            _add(tar, tree.top / name, name)
    return hashing.digest.hexdigest(), hashing.size


def send(client: Client, tree: Tree) -> dict[str, object]:
    """Pack, and send what the controller does not have; the workspace as the API takes it."""
    import tempfile

    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
        try:
            digest, size = pack(tree, file)
        except OSError as error:
            raise CliError(f"no room to pack {tree.top}: {error.strerror}", "set TMPDIR to a larger place") from error
        _send_blob(client, digest, size, file)
    return {
        "sha256": digest,
        "size": size,
        "files": len(tree.files),
        "tree": digest,
        "commit": tree.commit,
        "branch": tree.branch,
        "dirty": tree.dirty,
        "diff_sha256": _send_diff(client, tree) if tree.dirty else "",
        "data_versions": _data_versions(tree),
    }


def _send_blob(client: Client, digest: str, size: int, file: IO[bytes]) -> None:
    """Once a content. Raises: CliError in the controller's words."""
    known = client.open("HEAD", f"/blobs/{digest}")
    known.read()
    if known.status == 200:
        return
    file.seek(0)
    headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
    progress = render.Progress("sending the working directory,", size)
    try:
        answer = client.open("PUT", f"/blobs/{digest}", _Told(file, progress), headers, timeout_s=600)
    finally:
        progress.end()
    if answer.status >= 400:
        raise refusal(answer)
    answer.read()


class _Told:
    """A file that says how much of it was read."""

    def __init__(self, file: IO[bytes], progress: render.Progress) -> None:
        self._file, self._progress = file, progress

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._progress.add(len(data))
        return data


class _Hashing:
    """A file that hashes what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self._file.write(data)


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    info = tarfile.TarInfo(name)
    try:
        status = path.lstat()
        info.mode = 0o755 if status.st_mode & 0o100 else 0o644
        if stat.S_ISLNK(status.st_mode):
            info.type, info.linkname, info.mode = tarfile.SYMTYPE, os.readlink(path), 0o777
            return tar.addfile(info)
        file = path.open("rb")
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}", f"leave it out with {IGNORE_FILE}") from error
    with file:
        info.size = os.fstat(file.fileno()).st_size
        try:
            tar.addfile(info, file)
        except OSError as error:
            if error.errno is not None:
                raise
            raise CliError(f"{path} changed while it was packed", "try again when nothing writes there") from error


def _size(path: Path) -> int | None:
    """Of files and links; None for all else, and for what git still lists but is deleted."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode) else None


def _largest(sizes: dict[str, int]) -> str:
    """The three largest of what stands at the top, folders with all that is in them."""
    entries: dict[str, int] = {}
    for name, size in sizes.items():
        first, slash, _ = name.partition("/")
        entries[first + slash] = entries.get(first + slash, 0) + size
    return ", ".join(f"{name} ({shown_size(entries[name])})" for name in sorted(entries, key=lambda n: -entries[n])[:3])


def _git(top: Path) -> _Known:
    repository = _repository(top)
    if repository is None:
        return _Known()
    tracked = _ask_git(top, "ls-files", "-z")
    options = ("--porcelain=v2", "--branch", "-z", "--no-renames", "--untracked-files=all", "--ignored=matching")
    status = _ask_git(top, "--no-optional-locks", "status", *options, "--", ".")
    names, entries = _answer(tracked), _answer(status)
    if names is None or entries is None:
        return _Known()
    prefix = os.path.relpath(os.path.realpath(top), repository) + "/"
    known = _read_status(entries, "" if prefix == "./" else prefix)
    found = [*dict.fromkeys(filter(None, names)), *(known.names or [])]
    known.names = list(_with_nested(top, found))
    return known


def _read_status(entries: list[str], prefix: str) -> _Known:
    """Untracked names, ignored folders, and where HEAD is. Source: git-status(1), "Porcelain Format Version 2"."""
    known = _Known(names=[])
    assert known.names is not None
    for entry in filter(None, entries):
        kind, _, rest = entry.partition(" ")
        if kind == "#":
            word, _, value = rest.partition(" ")
            if word == "branch.oid" and value != "(initial)":
                known.commit = value
            elif word == "branch.head" and value != "(detached)":
                known.branch = value
        elif kind == "!":
            known.ignored.add(rest.removeprefix(prefix).rstrip("/"))
        else:
            known.dirty = True
            if kind == "?":
                known.names.append(rest.removeprefix(prefix))
    return known


def _with_nested(top: Path, names: list[str]) -> Iterator[str]:
    """Submodules, and repositories that are only put here, as what git says of them."""
    for name in names:
        full = top / name
        if not name.endswith("/") and (full.is_symlink() or not full.is_dir()):
            yield name
            continue
        if (full / ".git").exists():
            yield from (f"{name.rstrip('/')}/{one}" for one in _git(full).names or [])


def _repository(top: Path) -> str | None:
    """The folder with `.git` in it, above or at `top`."""
    folder = os.path.realpath(top)
    while not os.path.exists(os.path.join(folder, ".git")):
        if folder == os.path.dirname(folder):
            return None
        folder = os.path.dirname(folder)
    return folder


def _ask_git(top: Path, *words: str) -> subprocess.Popen[bytes] | None:
    environment = {name: value for name, value in os.environ.items() if name not in _MISLEADING}
    try:
        return subprocess.Popen(
            ["git", "-C", str(top), *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
    except FileNotFoundError:
        return None


def _answer(asked: subprocess.Popen[bytes] | None) -> list[str] | None:
    if asked is None:
        return None
    out, _ = asked.communicate()
    return os.fsdecode(out).split("\0") if asked.returncode == 0 else None


def _walk(top: Path, rules: Ignore, known: _Known) -> tuple[list[str], list[str]]:
    """All files and links, and all empty folders, of what is not left out."""
    files: list[str] = []
    empty: list[str] = []
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            entries = list(os.scandir(top / below))
        except PermissionError as error:
            raise CliError(f"cannot read {top / below}", f"leave it out with {IGNORE_FILE}") from error
        if not entries and below:
            empty.append(below.rstrip("/"))
        for entry in entries:
            name = below + entry.name
            if not entry.is_dir(follow_symlinks=False):
                files.append(name)
            elif entry.name != ".git" and name not in known.ignored and not rules.folder(name):
                waiting.append(f"{name}/")
    return files, empty


def _send_diff(client: Client, tree: Tree) -> str:
    """What differs from the commit, kept with the record: whole, binary files included."""
    import tempfile

    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
        hashing = _Hashing(file)
        asked = _ask_git(tree.top, "diff", "--no-ext-diff", "--no-color", "--binary", "HEAD", "--", ".")
        if asked is not None and asked.stdout is not None:
            while data := asked.stdout.read(_BLOCK):
                hashing.write(data)
            asked.wait()
        _send_blob(client, hashing.digest.hexdigest(), hashing.size, file)
        return hashing.digest.hexdigest()


def _data_versions(tree: Tree) -> dict[str, str]:
    """The files in which DVC keeps the versions of data, by digest."""
    named = [name for name in tree.files if os.path.basename(name) == "dvc.lock" or name.endswith(".dvc")]
    return {name: hashlib.sha256((tree.top / name).read_bytes()).hexdigest() for name in named}
