"""Packing the working directory: what git tracks, and what it neither tracks nor ignores; sent once per content.

The archive is deterministic (sorted, no times, no owners), so that equal trees have equal digests. Sizes are summed
before a byte is read.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .amounts import shown_size
from .client import Client
from .failures import CliError

LIMIT = 2**30
IGNORE_FILE = ".runnerignore"


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


def look(top: Path, *, large: bool = False) -> Tree:
    """Raises: CliError when it is no folder, or over the limit, naming the largest entries."""
    if not top.is_dir():
        raise CliError(f"{top} is not a folder", "--workdir names the folder to send, --no-workdir sends none")
    commit, branch, dirty, names = _git(top)
    if names is None:
        names = _walk(top)
    ignored = _ignored(top, names)
    files = sorted(name for name in names if name not in ignored and _exists(top / name))
    sizes = {name: (top / name).lstat().st_size for name in files}
    total = sum(sizes.values())
    if total > LIMIT and not large:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        named = ", ".join(f"{name} ({shown_size(sizes[name])})" for name in largest)
        raise CliError(
            f"{top} is {shown_size(total)}, over the limit of {shown_size(LIMIT)}; largest: {named}",
            f"leave files out with {IGNORE_FILE}, bring data with `inputs`, or add --large",
        )
    return Tree(top, tuple(files), tuple(_empty_folders(top, ignored)), total, commit, branch, dirty)


def pack(tree: Tree, target: IO[bytes]) -> tuple[str, int]:
    """Write the archive; its sha256 and size."""
    hashing = _Hashing(target)
    with tarfile.open(fileobj=hashing, mode="w|", format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
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

    with tempfile.TemporaryFile() as file:
        digest, size = pack(tree, file)
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
    answer = client.open("PUT", f"/blobs/{digest}", file, headers, timeout_s=600)
    body = answer.read()
    if answer.status >= 400:
        raise CliError(f"the working directory was not taken: {body[:300].decode(errors='replace')}", "", 3)


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
    status = path.lstat()
    info = tarfile.TarInfo(name)
    info.mode = 0o755 if status.st_mode & 0o100 else 0o644
    if stat.S_ISLNK(status.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)
        tar.addfile(info)
        return
    with path.open("rb") as file:
        info.size = os.fstat(file.fileno()).st_size
        try:
            tar.addfile(info, file)
        except OSError as error:
            raise CliError(f"{path} changed while it was packed", "try again when nothing writes there") from error


def _exists(path: Path) -> bool:
    """Files and links; git lists what is deleted and not yet committed, too."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def _git(top: Path) -> tuple[str, str, bool, list[str] | None]:
    """Commit, branch, whether anything differs, and the names; None for these outside a repository."""
    listed = _ask_git(top, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if listed is None:
        return "", "", False, None
    head = (_ask_git(top, "log", "-1", "--format=%H%n%D") or "").splitlines()
    commit = head[0] if head else ""
    branch = head[1].removeprefix("HEAD -> ").split(",")[0] if len(head) > 1 else ""
    dirty = bool(_ask_git(top, "status", "--porcelain", "--", "."))
    names: list[str] = []
    for name in filter(None, listed.split("\0")):
        full = top / name
        if full.is_dir() and not full.is_symlink():  # a submodule
            names += [f"{name}/{inner}" for inner in (_git(full)[3] or [])]
        else:
            names.append(name)
    return commit, branch, dirty, names


def _ask_git(top: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(top), *words], capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return os.fsdecode(done.stdout) if done.returncode == 0 else None


def _walk(top: Path) -> list[str]:
    found = []
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if name != ".git"]
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        found += [os.path.relpath(os.path.join(folder, name), top) for name in (*names, *links)]
    return found


def _ignored(top: Path, names: list[str]) -> set[str]:
    """Names that .runnerignore leaves out: gitignore's own rules, by git itself."""
    rules = top / IGNORE_FILE
    if not rules.exists() or not names:
        return set()
    words = ["git", "-c", f"core.excludesFile={rules}", "check-ignore", "-z", "--stdin", "--no-index"]
    try:
        done = subprocess.run(
            words, input="\0".join(names).encode(), capture_output=True, check=False, cwd=top, env=_outside(top)
        )
    except FileNotFoundError as error:
        raise CliError(f"{IGNORE_FILE} needs git", "install git, or remove the file") from error
    return set(filter(None, os.fsdecode(done.stdout).split("\0")))


def _outside(top: Path) -> dict[str, str]:
    """git's environment, with an empty repository of our own where there is none."""
    environment = dict(os.environ)
    if _ask_git(top, "rev-parse", "--git-dir") is None:
        import tempfile

        empty = tempfile.mkdtemp(prefix="runner-git-")
        subprocess.run(["git", "init", "-q", "--bare", empty], check=True, capture_output=True)
        environment |= {"GIT_DIR": empty, "GIT_WORK_TREE": str(top)}
    return environment


def _empty_folders(top: Path, ignored: set[str]) -> list[str]:
    """Kept, because programs write into folders that they expect."""
    empty = []
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if name not in (".git", "__pycache__", ".venv", "node_modules")]
        name = os.path.relpath(folder, top)
        if not folders and not names and name != "." and name not in ignored:
            empty.append(name)
    return sorted(empty)


def _send_diff(client: Client, tree: Tree) -> str:
    """What differs from the commit, kept with the record."""
    diff = os.fsencode(_ask_git(tree.top, "diff", "HEAD", "--", ".") or "")
    digest = hashlib.sha256(diff).hexdigest()
    _send_blob(client, digest, len(diff), io.BytesIO(diff))
    return digest


def _data_versions(tree: Tree) -> dict[str, str]:
    """The files in which DVC keeps the versions of data, by digest."""
    named = [name for name in tree.files if os.path.basename(name) == "dvc.lock" or name.endswith(".dvc")]
    return {name: hashlib.sha256((tree.top / name).read_bytes()).hexdigest() for name in named}
