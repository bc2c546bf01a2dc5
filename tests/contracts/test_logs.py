"""The Logs' laws on this controller's disk, and sealed for several controllers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from provisioner.domain.ports import Logs, LogSpan
from provisioner.objects.open import open_objects
from provisioner.store.logs import FileLogs
from provisioner.store.open import open_store
from provisioner.store.sealed import SealedLogs
from tests.fakes.disk import files_of_at_most, open_below

from .logs_laws import LogsLaws, spans_of, whole


class TestFileLogs(LogsLaws):
    @pytest.fixture
    def logs(self, tmp_path: Path) -> Logs:
        self.folder = tmp_path
        return FileLogs(tmp_path)

    async def reopened(self, logs: Logs) -> Logs:
        return FileLogs(self.folder)

    async def test_a_torn_write_is_cut_to_what_is_whole(self, logs: Logs, tmp_path: Path) -> None:
        await logs.append("j-1", 1, 0, spans_of(0, 3), b"abc")
        _append(tmp_path / "j-1" / "1.log", b"half a chunk without a span")
        _append(tmp_path / "j-1" / "1.idx", b"half a span")
        again = FileLogs(tmp_path)
        assert await again.offsets("j-1", 1) == (3, 3)
        await again.append("j-1", 1, 3, spans_of(3, 3), b"def")
        assert await whole(again) == b"abcdef"

    async def test_a_span_without_its_bytes_is_cut(self, logs: Logs, tmp_path: Path) -> None:
        await logs.append("j-1", 1, 0, spans_of(0, 3), b"abc")
        await logs.append("j-1", 1, 3, spans_of(3, 3), b"def")
        _truncate(tmp_path / "j-1" / "1.log", 4)
        assert await FileLogs(tmp_path).offsets("j-1", 1) == (3, 3)

    async def test_an_index_that_the_disk_cut_short_is_not_answered_as_safe(self, logs: Logs, tmp_path: Path) -> None:
        """Full within a record, as at the end of a page: nothing of that append counts, and it may come again."""
        data = bytes(range(250))
        await logs.append("j-1", 1, 0, spans_of(0, *[1] * 150), data[:150])
        with files_of_at_most(4096), pytest.raises(OSError, match="File too large"):
            await logs.append("j-1", 1, 150, spans_of(150, *[1] * 100), data[150:])
        assert (tmp_path / "j-1" / "1.idx").stat().st_size == 150 * 21
        assert await logs.offsets("j-1", 1) == (150, 150)
        assert await logs.append("j-1", 1, 150, spans_of(150, *[1] * 100), data[150:]) == (250, 250)
        again = FileLogs(tmp_path)
        assert await again.offsets("j-1", 1) == (250, 250)
        assert await whole(again) == await whole(logs) == data

    @pytest.mark.parametrize("left", range(1, 21))
    async def test_an_index_that_is_out_of_step_is_mended(self, logs: Logs, tmp_path: Path, left: int) -> None:
        """One append has no records but `left` bytes of its first: what is around them stays as it was."""
        for at, data in ((0, b"abc"), (3, b"lost"), (7, b"d"), (8, b"ef")):
            await logs.append("j-1", 1, at, spans_of(at, len(data), stream=2), data)
        index = tmp_path / "j-1" / "1.idx"
        records = index.read_bytes()
        index.write_bytes(records[: 21 + left] + records[42:])
        again = FileLogs(tmp_path)
        assert await again.offsets("j-1", 1) == (10, 10)
        await again.append("j-1", 1, 10, spans_of(10, 2, stream=2), b"gh")
        assert await whole(FileLogs(tmp_path)) == b"abclostdefgh"
        spans, _ = await again.read("j-1", 1, 8)
        assert spans == spans_of(8, 2, 2, stream=2)

    async def test_files_are_kept_open_for_the_logs_used_last(self, tmp_path: Path) -> None:
        logs = FileLogs(tmp_path, most_open=3)
        for number in (1, 2, 3, 1, 4, 1, 5):
            await logs.append("j-1", number, 0, spans_of(0, 1), b"a")
        assert open_below(tmp_path) == {f"{n}.{end}" for n in (1, 4, 5) for end in ("log", "idx")}
        assert await logs.append("j-1", 2, 1, spans_of(1, 1), b"b") == (2, 2)

    async def test_no_files_are_kept_open_for_an_attempt_that_ended(self, logs: Logs, tmp_path: Path) -> None:
        await logs.append("j-1", 1, 0, spans_of(0, 1), b"a")
        await logs.rest("j-1", 1)
        assert await logs.offsets("j-1", 1) == (1, 1)
        assert await whole(logs) == b"a"
        assert open_below(tmp_path) == set()
        assert await logs.append("j-1", 1, 1, spans_of(1, 1), b"b") == (2, 2)

    async def test_zeros_behind_the_index_take_nothing_with_them(self, logs: Logs, tmp_path: Path) -> None:
        """What power loss leaves of a file that grew."""
        await logs.append("j-1", 1, 0, spans_of(0, 3), b"abc")
        _append(tmp_path / "j-1" / "1.idx", bytes(21 * 4))
        assert await FileLogs(tmp_path).offsets("j-1", 1) == (3, 3)
        assert await whole(FileLogs(tmp_path)) == b"abc"


class TestSealedLogs(LogsLaws):
    @pytest.fixture
    async def logs(self, tmp_path: Path) -> AsyncIterator[Logs]:
        store = await open_store("sqlite://", secret_key=b"k" * 32, inline=True)
        self.parts = (store.database, open_objects(str(tmp_path)))
        yield SealedLogs(*self.parts)
        await store.close()

    async def reopened(self, logs: Logs) -> Logs:
        return SealedLogs(*self.parts)

    async def test_of_two_controllers_one_seals_and_the_other_starts_again(self, logs: Logs) -> None:
        other = SealedLogs(*self.parts)
        data = b"x" * (5 * 2**20)
        await logs.append("j-1", 1, 0, [LogSpan(0, 3, 1, 0.0)], b"abc")
        received, safe = await other.append("j-1", 1, 0, spans_of(0, len(data)), data)
        assert received == safe == len(data)
        size = len(data) + 3
        received, safe = await logs.append("j-1", 1, 3, spans_of(3, len(data)), data)
        assert (received, safe) == (len(b"x") * len(data), len(data))
        assert size > received
        assert await whole(logs) == data


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def _truncate(path: Path, size: int) -> None:
    with path.open("rb+") as file:
        file.truncate(size)
