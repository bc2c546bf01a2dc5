"""Which files are outputs, and that nothing outside the workspace ever is."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.gather import Gatherer, match
from agent.upload import Changed, checked_blocks


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    for path in ("a.txt", "plots/one.png", "plots/deep/two.png", "plots/x.txt", "m/a[1].json", ".hidden/h"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    return folder


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("a.txt", ["a.txt"]),
        ("./a.txt", ["a.txt"]),
        ("*.txt", ["a.txt"]),
        ("**/*.txt", ["a.txt", "plots/x.txt"]),
        ("plots/*.png", ["plots/one.png"]),
        ("plots/**", ["plots/deep/two.png", "plots/one.png", "plots/x.txt"]),
        ("plots/**/*.png", ["plots/deep/two.png", "plots/one.png"]),
        ("plots", ["plots/deep/two.png", "plots/one.png", "plots/x.txt"]),
        ("plots/", ["plots/deep/two.png", "plots/one.png", "plots/x.txt"]),
        ("p*/d*", ["plots/deep/two.png"]),
        ("m/a[[]1].json", ["m/a[1].json"]),
        ("[!a]*/one.png", ["plots/one.png"]),
        ("?.txt", ["a.txt"]),
        ("**", [".hidden/h", "a.txt", "m/a[1].json", "plots/deep/two.png", "plots/one.png", "plots/x.txt"]),
        ("none*", []),
        ("../work/a.txt", []),
        ("/etc/passwd", []),
        ("[z-a]", []),
        ("", []),
    ],
)
def test_patterns(root: Path, pattern: str, paths: list[str]) -> None:
    assert sorted(match(str(root), pattern)) == paths


def test_what_is_no_file_of_the_workspace_is_named_and_not_taken(root: Path) -> None:
    (root / "out").mkdir()
    (root / "out/leak").symlink_to("/etc/passwd")
    (root / "out/up").symlink_to("../../outside")
    (root.parent / "outside").write_text("secret")
    (root / "out/inner").symlink_to("../a.txt")
    (root / "out/folder").symlink_to("../plots")
    (root / "out/dangling").symlink_to("nothing")
    os.mkfifo(root / "out/pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "out/sock"))
        found = Gatherer(str(root)).outputs(["out/**"])
    assert [(file.path, file.size) for file in found.files] == [("out/inner", 5)]
    assert found.refused == [
        "out/dangling: a link to nothing",
        "out/folder: a link to a folder",
        "out/leak: a link that leaves the workspace",
        "out/pipe: a pipe",
        "out/sock: a socket",
        "out/up: a link that leaves the workspace",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="making a device takes root")
def test_a_device_is_refused(root: Path) -> None:
    try:
        os.mknod(root / "dev", 0o20600, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("making a device is not allowed here")
    assert Gatherer(str(root)).outputs(["dev"]).refused == ["dev: a device"]


def test_a_folder_that_became_a_link_is_not_followed(root: Path) -> None:
    (root / "far").symlink_to("/etc")
    assert Gatherer(str(root)).outputs(["far/passwd", "far/**"]).files == []


def test_a_file_swapped_for_a_link_after_the_look_is_not_opened(root: Path) -> None:
    (found,) = Gatherer(str(root)).outputs(["plots/deep/two.png"]).files
    (root / "plots/deep").rename(root / "moved")
    (root.parent / "out").mkdir()
    (root.parent / "out/two.png").write_text("elsewhere")
    (root / "plots/deep").symlink_to(root.parent / "out")
    with pytest.raises(Exception, match="leaves the workspace"):
        found.open()


def test_an_unchanged_file_is_not_read_again(root: Path) -> None:
    size = 2**20
    (root / "a.txt").write_bytes(bytes(size))
    gatherer = Gatherer(str(root))
    assert _read_by(lambda: gatherer.outputs(["a.txt"])) >= size
    assert _read_by(lambda: gatherer.outputs(["a.txt"])) >= size, "what was written a moment ago is not trusted"
    time.sleep(1.1)
    gatherer.outputs(["a.txt"])
    assert _read_by(lambda: gatherer.outputs(["a.txt"])) < size
    stamp = (root / "a.txt").stat()
    (root / "a.txt").write_bytes(b"1" * size)
    os.utime(root / "a.txt", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert gatherer.outputs(["a.txt"]).files[0].sha256 == hashlib.sha256(b"1" * size).hexdigest()


def _read_by(work: Callable[[], object]) -> int:
    """Bytes that this process read meanwhile."""

    def read() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    before = read()
    work()
    return read() - before


@pytest.mark.parametrize("now", [b"other", b"short", b""])
def test_a_file_that_changed_never_goes_whole_under_its_old_name(root: Path, now: bytes) -> None:
    (found,) = Gatherer(str(root)).outputs(["a.txt"]).files
    (root / "a.txt").write_bytes(now)
    number = found.open()
    try:
        with pytest.raises(Changed):
            list(checked_blocks(number, found))
    finally:
        os.close(number)
