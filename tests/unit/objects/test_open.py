"""Which adapter a URL gets, and what it costs to get it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from provisioner.domain.errors import InvalidRequest, ObjectsError
from provisioner.objects import open_objects
from provisioner.objects.open import open_foreign
from provisioner.objects.s3 import part_size_for


def test_a_path_and_a_file_url_are_directories(tmp_path: Path) -> None:
    assert open_objects(str(tmp_path)).url == str(tmp_path)
    assert open_objects(f"file://{tmp_path}").url == str(tmp_path)


@pytest.mark.parametrize(("url", "signs"), [("s3://b/p/", True), ("gs://b", True), ("az://b/p", True), ("/x", False)])
def test_signing_is_known_without_opening_anything(url: str, signs: bool) -> None:
    assert open_objects(url).signs is signs


@pytest.mark.parametrize("url", ["ftp://host/x", "s3://", "s3:///key", ""])
def test_what_cannot_hold_objects_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        open_objects(url)


def test_a_foreign_source_is_a_store_and_a_key() -> None:
    store, key = open_foreign("s3://bucket/folder/file#1.bin")
    assert (store.url, key) == ("s3://bucket", "folder/file#1.bin")
    store, key = open_foreign("/data/../data/x/")
    assert (store.url, key) == ("/", "data/x")


@pytest.mark.parametrize(
    ("size", "part_size"),
    [(0, 16 * 2**20), (10_000 * 16 * 2**20, 16 * 2**20), (10_000 * 16 * 2**20 + 1, 17 * 2**20), (2**40, 105 * 2**20)],
)
def test_parts_grow_only_when_there_would_be_too_many(size: int, part_size: int) -> None:
    assert part_size_for(size) == part_size
    assert -(-size // part_size) <= 10_000


def test_a_size_beyond_the_store_is_refused() -> None:
    with pytest.raises(ObjectsError):
        part_size_for(2**60)


def test_a_directory_imports_no_sdk() -> None:
    program = (
        "import sys\nfrom provisioner.objects import open_objects\nopen_objects('/nowhere')\n"
        "print([name for name in ('obstore', 'boto3', 'botocore') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
