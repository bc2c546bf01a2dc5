"""What is sent: tracked, and untracked but not ignored; the same bytes for the same tree."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from provisioner.cli import pack
from provisioner.cli.failures import CliError


def git(folder: Path, *words: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=n", "-c", "user.email=e@e", "-C", str(folder), *words], check=True, capture_output=True
    )


def packed(folder: Path) -> tuple[str, list[str]]:
    buffer = io.BytesIO()
    digest, size = pack.pack(pack.look(folder), buffer)
    assert size == len(buffer.getvalue())
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as tar:
        return digest, sorted(tar.getnames())


def test_git_decides(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("*.bin\n")
    for name in ("tracked.py", "new.py", "large.bin", "gone.py"):
        (tmp_path / name).write_text(name)
    git(tmp_path, "add", "tracked.py", "gone.py", ".gitignore")
    git(tmp_path, "commit", "-qm", "one")
    (tmp_path / "gone.py").unlink()
    assert packed(tmp_path)[1] == [".gitignore", "new.py", "tracked.py"]
    tree = pack.look(tmp_path)
    assert tree.dirty
    assert len(tree.commit) == 40


def test_runnerignore_leaves_out_more(tmp_path: Path) -> None:
    (tmp_path / "keep.py").write_text("")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_text("")
    (tmp_path / ".runnerignore").write_text("data/\n")
    assert packed(tmp_path)[1] == [".runnerignore", "keep.py"]


def test_empty_folders_and_links_are_kept(tmp_path: Path) -> None:
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    (tmp_path / "a").write_text("a")
    (tmp_path / "link").symlink_to("a")
    assert packed(tmp_path)[1] == ["a", "empty/inner", "link"]


def test_times_and_owners_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    first = packed(tmp_path)[0]
    os.utime(tmp_path / "a", (time.time() - 1000, time.time() - 1000))
    assert packed(tmp_path)[0] == first


def test_a_tree_over_the_limit_is_refused_before_a_byte_is_read(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2 * 2**30)
    began = time.monotonic()
    with pytest.raises(CliError, match=r"huge \(2\.0 GiB\)"):
        pack.look(tmp_path)
    assert time.monotonic() - began < 5
    assert pack.look(tmp_path, large=True).size == 2 * 2**30


def test_no_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="is not a folder"):
        pack.look(tmp_path / "nowhere")
