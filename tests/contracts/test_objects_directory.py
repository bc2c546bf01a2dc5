"""The plain directory keeps the laws of Objects."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.domain.errors import ObjectsError
from provisioner.domain.ports import Objects
from provisioner.objects import open_objects

from .objects_laws import ObjectsLaws, read


class TestDirectory(ObjectsLaws):
    @pytest.fixture
    def objects(self, tmp_path: Path) -> Objects:
        return open_objects(str(tmp_path / "objects"))

    async def test_it_does_not_sign_and_says_so(self, objects: Objects) -> None:
        assert not objects.signs
        assert await objects.post_policy("a", 60, 1) is None
        with pytest.raises(ObjectsError):
            await objects.sign(["a"], "PUT", 60)

    async def test_nothing_hidden_is_left_behind(self, objects: Objects, tmp_path: Path) -> None:
        await objects.put("a/b", b"x")
        await objects.delete(["a/b"])
        assert [path.name for path in (tmp_path / "objects").rglob("*")] == [".part"]

    async def test_another_place_is_reached_by_path(self, objects: Objects, tmp_path: Path) -> None:
        (tmp_path / "data" / "deep").mkdir(parents=True)
        (tmp_path / "data" / "deep" / "file").write_bytes(b"input")
        other, key = await objects.foreign(f"file://{tmp_path}/data")
        (found,) = await other.under(key)
        assert found.size == 5
        assert found.key.endswith("data/deep/file")
        assert await read(other, found.key) == b"input"
