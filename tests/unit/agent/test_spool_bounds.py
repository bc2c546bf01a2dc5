"""What is written comes out again byte for byte, however it is read, while no more than the limit lies on the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import spool, wire
from agent.spool import SpoolReader, SpoolWriter


def never(what: str) -> None:
    raise AssertionError(f"waited for {what}")


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_reading_from_anywhere_gives_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    writer, reader = SpoolWriter(str(folder), 2**30, never), SpoolReader(str(folder))
    chunks = data.draw(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(min_size=1, max_size=40)), max_size=20))
    whole, streams = b"", b""
    for stream, chunk in chunks:
        writer.append(stream, chunk)
        whole, streams = whole + chunk, streams + bytes([stream]) * len(chunk)
    assert (writer.size, reader.size(), reader.start()) == (len(whole), len(whole), 0)
    for offset in range(len(whole)):
        spans, got = reader.read(offset, limit := data.draw(st.integers(1, 50)))
        assert got == whole[offset : offset + limit]
        assert b"".join(bytes([stream]) * length for _, length, stream, _ in spans) == streams[offset : offset + limit]
        assert [span[0] for span in spans] == [offset + sum(s[1] for s in spans[:i]) for i in range(len(spans))]


def test_the_index_is_what_the_wire_says(tmp_path: Path) -> None:
    writer = SpoolWriter(str(tmp_path), 2**30, never)
    writer.append(1, b"abc")
    writer.append(2, b"de")
    (index,) = tmp_path.glob("*.idx")
    assert [span[:3] for span in wire.unpack_spans(index.read_bytes())] == [(0, 3, 1), (3, 2, 2)]


def test_a_torn_span_and_bytes_without_one_are_not_there_yet(tmp_path: Path) -> None:
    writer, reader = SpoolWriter(str(tmp_path), 2**30, never), SpoolReader(str(tmp_path))
    writer.append(1, b"abc")
    (index,), (data,) = tmp_path.glob("*.idx"), tmp_path.glob("*.log")
    with data.open("ab") as file:
        file.write(b"def")
    with index.open("ab") as file:
        file.write(b"\x03\x00\x00")
    assert (reader.size(), reader.read(0, 99)[1], reader.read(3, 99)) == (3, b"abc", ([], b""))


def test_the_writer_waits_for_the_reader_and_the_disk_holds_no_more_than_the_limit(tmp_path: Path) -> None:
    reader, got, most = SpoolReader(str(tmp_path)), bytearray(), [0]

    def take(what: str) -> None:
        assert what == "spool"
        most[0] = max(most[0], on_disk(tmp_path))
        while data := reader.read(len(got), 2**20)[1]:
            got.extend(data)
        reader.free(len(got))

    limit = 20 * 2**20
    writer = SpoolWriter(str(tmp_path), limit, take)
    chunk = os.urandom(2**18)
    for _ in range(400):
        writer.append(1, chunk)
    take("spool")
    assert bytes(got) == chunk * 400
    assert most[0] <= limit


def test_a_limit_below_one_segment_lets_everything_through_too(tmp_path: Path) -> None:
    reader, got = SpoolReader(str(tmp_path)), bytearray()

    def take(_: str) -> None:
        while data := reader.read(len(got), 2**20)[1]:
            got.extend(data)
        reader.free(len(got))

    writer = SpoolWriter(str(tmp_path), 1000, take)
    for number in range(300):
        writer.append(1, b"%099d\n" % number)
    take("")
    assert bytes(got) == b"".join(b"%099d\n" % number for number in range(300))


def test_crumbs_are_bounded_by_their_index_too_and_read_without_reading_all_of_it(tmp_path: Path) -> None:
    writer, reader = SpoolWriter(str(tmp_path), 64 * 2**20, never), SpoolReader(str(tmp_path))
    count = spool.SEGMENT // 22 + 1000
    for _ in range(count):
        writer.append(1, b"x")
    assert len(list(tmp_path.glob("*.log"))) == 2
    for offset in (0, 5, 200_000, count - 1):
        assert len(reader.read(offset, 10)[0]) == min(10, count - offset)
    assert reader.size() == count


def test_freed_bytes_are_not_read_and_the_last_segment_stays(tmp_path: Path) -> None:
    writer, reader = SpoolWriter(str(tmp_path), 2**30, never), SpoolReader(str(tmp_path))
    chunk = bytes(2**20)
    for _ in range(20):
        writer.append(1, chunk)
    reader.free(2**40)
    assert reader.start() > 0
    assert reader.size() == 20 * 2**20
    assert reader.read(0, 10) == ([], b"")
