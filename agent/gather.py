"""Which files of a workspace are outputs, and what each of them is: patterns to paths to hashes.

Nothing outside the workspace is ever read: a link is followed only when what it leads to lies inside, which is asked of
the opened file itself, so that a job that swaps a file for a link in the meantime gains nothing; nor is a second name
of a file that is not the job's. Whatever is matched and not taken is named with its reason.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

from .upload import Changed, Local, Stamp, stamp_of

_BLOCK = 2**20
_TRIES = 3
_TICK_NS = 10**9  # far above the granularity of a file's times; arbitrary
_NOT_TAKEN = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


class NotTaken(Exception):
    """Why a path that matched is left out."""


@dataclass(frozen=True)
class Found:
    files: list[Local]
    refused: list[str]


class Gatherer:
    """Remembers the hashes of files whose size and times have not changed since."""

    def __init__(self, workspace: str) -> None:
        self._root = os.path.realpath(workspace)
        self._owner = os.stat(self._root).st_uid if os.path.isdir(self._root) else os.geteuid()
        self._known: dict[str, tuple[Stamp, str]] = {}

    def outputs(self, patterns: list[str]) -> Found:
        """Everything that the patterns match, in order of path."""
        matched: set[str] = set()
        refused: list[str] = []
        for pattern in patterns:
            paths = set(match(self._root, pattern))
            if not paths:
                refused.append(f"no file matched {pattern!r}")
            matched |= paths
        files = self._taken(sorted(matched), refused)
        return Found(files, refused)

    def under(self, folder: str) -> Found:
        """Every file below one folder; paths are relative to it."""
        top = os.path.normpath(folder)
        found = self.outputs([f"{top}/**"] if top != "." else ["**"])
        cut = 0 if top == "." else len(top) + 1
        files = [Local(f.path[cut:], f.size, f.sha256, f.mode, f.open) for f in found.files]
        return Found(files, [line for line in found.refused if not line.startswith("no file matched")])

    def _taken(self, paths: list[str], refused: list[str]) -> list[Local]:
        files = []
        for path in paths:
            for left in range(_TRIES - 1, -1, -1):
                try:
                    files.append(self._file(path))
                    break
                except NotTaken as reason:
                    refused.append(f"{path}: {reason}")
                    break
                except FileNotFoundError:
                    break
                except Changed:
                    if not left:
                        refused.append(f"{path}: it changed whenever it was read")
                except OSError as error:
                    refused.append(f"{path}: {error.strerror}")
                    break
        return files

    def _file(self, path: str) -> Local:
        number = self._open(path)
        try:
            before = os.fstat(number)
            digest = self._hash(number, path, before)
        finally:
            os.close(number)
        mode = stat.S_IMODE(before.st_mode) & 0o777
        return Local(path, before.st_size, digest, mode, lambda: self._open(path), stamp_of(before))

    def _hash(self, number: int, path: str, before: os.stat_result) -> str:
        stamp = stamp_of(before)
        known = self._known.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        began_ns = time.time_ns()
        digest = hashlib.sha256()
        while block := os.read(number, _BLOCK):
            digest.update(block)
        after = os.fstat(number)
        if stamp_of(after) != stamp:
            raise Changed(path)
        if before.st_ctime_ns < began_ns - _TICK_NS:  # else it could be written again without showing it
            self._known[path] = (stamp, digest.hexdigest())
        return digest.hexdigest()

    def _open(self, path: str) -> int:
        """A descriptor of a regular file inside. Raises: NotTaken, OSError."""
        full = os.path.join(self._root, path)
        about = os.lstat(full)
        if stat.S_ISLNK(about.st_mode):
            target = os.path.realpath(full)
            if not self._inside(target):
                raise NotTaken("a link that leaves the workspace")
            if not os.path.exists(target):
                raise NotTaken("a link to nothing")
            about = os.stat(target)
            if stat.S_ISDIR(about.st_mode):
                raise NotTaken("a link to a folder")
        if not stat.S_ISREG(about.st_mode):
            raise NotTaken(_NOT_TAKEN.get(stat.S_IFMT(about.st_mode), "not a file"))
        number = os.open(full, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            about = os.fstat(number)
            if not stat.S_ISREG(about.st_mode):
                raise NotTaken("not a file")
            if about.st_uid != self._owner and about.st_nlink > 1:  # we may read more than whoever made the link
                raise NotTaken("another name of somebody else's file")
            if not self._inside(os.readlink(f"/proc/self/fd/{number}")):
                raise NotTaken("a link that leaves the workspace")
        except BaseException:
            os.close(number)
            raise
        return number

    def _inside(self, target: str) -> bool:
        return target.startswith(self._root + os.sep)


def match(root: str, pattern: str) -> Iterator[str]:
    """Relative paths of all that is not a folder and fits: `*`, `?` and `[...]` within a name, `**` over any number of
    folders. A folder that fits stands for all below it."""
    words = [word for word in pattern.split("/") if word not in ("", ".")]
    if not words or ".." in words or pattern.startswith("/"):
        return
    fixed: list[str] = []
    while len(fixed) < len(words) - 1 and not re.search(r"[*?\[]", words[len(fixed)]):
        fixed.append(words[len(fixed)])
    try:
        regex = re.compile(_regex(words))
    except re.error:  # a set that is none, such as [z-a]
        return
    start = "/".join(fixed)
    if not _plain_folders(root, fixed):
        return
    for path in _walk(root, start):
        if regex.fullmatch(path):
            yield path


def _plain_folders(root: str, names: list[str]) -> bool:
    """Whether one gets there without following a link."""
    path = root
    for name in names:
        path = os.path.join(path, name)
        if not os.path.isdir(path) or os.path.islink(path):
            return False
    return True


def _walk(root: str, folder: str) -> Iterator[str]:
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        with contextlib.suppress(OSError), os.scandir(os.path.join(root, here)) as entries:
            for entry in entries:
                path = f"{here}/{entry.name}" if here else entry.name
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                else:
                    yield path


def _regex(words: list[str]) -> str:
    out = ""
    for index, word in enumerate(words):
        last = index == len(words) - 1
        if word == "**":
            out += ".+" if last else "(?:[^/]+/)*"
        else:
            out += _name(word) + ("(?:/.+)?" if last else "/")
    return "(?s:" + out + ")"


def _name(word: str) -> str:
    """One name's pattern as a regular expression that never crosses a folder."""
    out, at = "", 0
    while at < len(word):
        letter = word[at]
        at += 1
        if letter == "*":
            out += "[^/]*"
        elif letter == "?":
            out += "[^/]"
        elif letter == "[" and (end := word.find("]", at + 1)) > 0:
            out += _set(word[at:end])
            at = end + 1
        else:
            out += re.escape(letter)
    return out


def _set(inside: str) -> str:
    negated = inside[:1] in ("!", "^")
    letters = (inside[1:] if negated else inside).replace("\\", "\\\\").replace("[", "\\[").replace("^", "\\^")
    return f"(?!/)[{'^' if negated else ''}{letters}]"


def stamps(workspace: str, folder: str) -> Optional[dict[str, Stamp]]:
    """Of all below a folder, by relative path; None when it is not there."""
    root = os.path.join(workspace, folder)
    if not os.path.isdir(root):
        return None
    found = {}
    for path in _walk(root, ""):
        with contextlib.suppress(OSError):
            found[path] = stamp_of(os.lstat(os.path.join(root, path)))
    return found
