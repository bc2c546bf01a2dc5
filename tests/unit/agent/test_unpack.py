"""A workspace's tar, unpacked as it was packed, or refused by name."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from agent import wire
from agent.archive import unpack
from agent.inputs import InputError, destination, inside


def _tar(path: Path, *entries: tarfile.TarInfo) -> str:
    with tarfile.open(path, "w") as archive:
        for entry in entries:
            archive.addfile(entry, io.BytesIO(b"x" * entry.size))
    return str(path)


def _entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.mode = kind, link, mode
    entry.size = 1 if kind == tarfile.REGTYPE else 0
    return entry


def test_files_folders_modes_and_links(tmp_path: Path) -> None:
    target = tmp_path / "w"
    target.mkdir()
    entries = [
        _entry("empty", tarfile.DIRTYPE),
        _entry("d/run.sh", mode=0o755),
        _entry("ln", tarfile.SYMTYPE, "d/run.sh"),
    ]
    unpack(_tar(tmp_path / "t", *entries), str(target))
    assert (target / "empty").is_dir()
    assert (target / "d/run.sh").stat().st_mode & 0o777 == 0o755
    assert (target / "ln").read_text() == "x"


@pytest.mark.parametrize("name", ["/abs", "../up", "a/../../up", ".."])
def test_what_lies_outside_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "w").mkdir()
    with pytest.raises(InputError, match="outside"):
        unpack(_tar(tmp_path / "t", _entry(name)), str(tmp_path / "w"))
    assert not (tmp_path / "up").exists()


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_devices_and_pipes_are_refused(tmp_path: Path, kind: bytes) -> None:
    (tmp_path / "w").mkdir()
    with pytest.raises(InputError, match="neither"):
        unpack(_tar(tmp_path / "t", _entry("dev", kind)), str(tmp_path / "w"))


def test_nothing_is_written_through_a_link_of_the_same_tar(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "far").mkdir()
    entries = [_entry("d", tarfile.SYMTYPE, str(tmp_path / "far")), _entry("d/file")]
    with pytest.raises(FileExistsError):
        unpack(_tar(tmp_path / "t", *entries), str(tmp_path / "w"))
    assert list((tmp_path / "far").iterdir()) == []


@pytest.mark.parametrize(
    ("source", "to", "key", "where"),
    [
        ("s3://b/p/", "data/", "s3://b/p/x/y", "data/x/y"),
        ("s3://b/p", "data", "s3://b/p/x", "data/x"),
        ("s3://b/f.bin", "in/f", "s3://b/f.bin", "in/f"),
        ("s3://b/f.bin", "in/", "s3://b/f.bin", "in/f.bin"),
    ],
)
def test_where_an_input_goes(source: str, to: str, key: str, where: str) -> None:
    assert destination(wire.InputOrder(source, to), key) == where


def test_an_input_never_leaves_the_workspace(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w/far").symlink_to("/etc")
    for path in ("../x", "/etc/x", "far/x", "a/../../x"):
        with pytest.raises(InputError, match="outside"):
            inside(str(tmp_path / "w"), path)
    assert inside(str(tmp_path / "w"), "a/b") == str(tmp_path / "w/a/b")
