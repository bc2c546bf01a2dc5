"""What is sent: tracked, and untracked but not ignored; the same bytes for the same tree."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from provisioner.cli import pack
from provisioner.cli.failures import CliError

from .terminal import TOP


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


def test_a_folder_below_the_top_of_a_repository_is_sent_alone(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "trunk")
    (tmp_path / "inner/deep").mkdir(parents=True)
    (tmp_path / ".gitignore").write_text("*.bin\n")
    for name in ("outer", "inner/a", "inner/deep/new", "inner/b.bin"):
        (tmp_path / name).write_text(name)
    git(tmp_path, "add", "outer", "inner/a")
    git(tmp_path, "commit", "-qm", "one")
    (tmp_path / "outer").write_text("changed")
    assert packed(tmp_path / "inner")[1] == ["a", "deep/new"]
    tree = pack.look(tmp_path / "inner")
    assert (tree.branch, tree.dirty) == ("trunk", True)


def test_what_is_changed_elsewhere_in_the_repository_does_not_make_a_folder_dirty(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "inner").mkdir()
    for name in ("outer", "inner/a"):
        (tmp_path / name).write_text(name)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    (tmp_path / "outer").write_text("changed")
    assert not pack.look(tmp_path / "inner").dirty


def test_runnerignore_in_a_repository_leaves_out_tracked_files_and_keeps_what_was_forced_in(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("*.bin\n")
    (tmp_path / ".runnerignore").write_text("/docs\n")
    (tmp_path / "docs").mkdir()
    for name in ("forced.bin", "docs/page", "a"):
        (tmp_path / name).write_text(name)
    git(tmp_path, "add", "-f", "forced.bin", "docs", "a")
    assert packed(tmp_path)[1] == [".gitignore", ".runnerignore", "a", "forced.bin"]


def test_folders_that_git_ignores_are_not_looked_into_for_empty_ones(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("cache/\n")
    for name in ("cache/empty", "out/empty", "new/empty"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "new/file").write_text("")
    assert packed(tmp_path)[1] == [".gitignore", "new/empty", "new/file", "out/empty"]


def test_repositories_inside_are_sent_as_they_say_themselves(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    for folder in (tmp_path, inner):
        git(folder, "init", "-q")
        (folder / ".gitignore").write_text("*.bin\n")
        for name in ("code", "a.bin"):
            (folder / name).write_text(name)
    git(inner, "add", ".")
    git(inner, "commit", "-qm", "one")
    wanted = [".gitignore", "code", "inner/.gitignore", "inner/code"]
    assert packed(tmp_path)[1] == wanted
    git(tmp_path, "add", ".")  # from here on it is a link of the outer one
    assert packed(tmp_path)[1] == wanted


def test_names_that_need_care_are_sent(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    names = ["a b", "caf\u00e9", "line\nbreak", "quo'te", "-dash", "rename -> me"]
    for name in names:
        (tmp_path / name).write_text(name)
    assert packed(tmp_path)[1] == sorted(names)
    git(tmp_path, "add", ".")
    assert packed(tmp_path)[1] == sorted(names)


def test_a_hook_that_points_git_elsewhere_changes_nothing(tmp_path: Path) -> None:
    """Hooks run with GIT_DIR and GIT_INDEX_FILE set; asked in a process of its own, whose environment is the test's."""
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("a")
    script = "import pathlib; from provisioner.cli import pack; print(pack.look(pathlib.Path('.')).files)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TOP), "GIT_DIR": "/nowhere", "GIT_INDEX_FILE": "/nowhere/index"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "('a',)\n"


def test_the_largest_entries_are_folders_with_what_is_in_them(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number in range(3):
        with (tmp_path / "data" / str(number)).open("wb") as file:
            file.truncate(2**29)
    with (tmp_path / "model").open("wb") as file:
        file.truncate(2**29)
    with pytest.raises(CliError, match=r"largest: data/ \(1\.5 GiB\), model \(512\.0 MiB\)"):
        pack.look(tmp_path)


def test_a_small_tree_is_packed_at_once(tmp_path: Path) -> None:
    """50 ms is the aim on an idle machine; the bound here is for a busy one."""
    git(tmp_path, "init", "-q")
    for number in range(100):
        (tmp_path / f"f{number}").write_text("x" * 2000)
    git(tmp_path, "add", ".")
    times = []
    for _ in range(5):
        began = time.perf_counter()
        pack.pack(pack.look(tmp_path), io.BytesIO())
        times.append(time.perf_counter() - began)
    assert min(times) < 0.15, times
