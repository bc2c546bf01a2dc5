"""The spool: what was written is read, whole segments are freed, and a full one makes the writer wait."""

from __future__ import annotations

from pathlib import Path

from agent import spool
from agent.spool import SpoolReader, SpoolWriter


def test_what_was_written_is_read_with_its_streams(tmp_path: Path) -> None:
    writer = SpoolWriter(str(tmp_path), 2**20, lambda _: None)
    reader = SpoolReader(str(tmp_path))
    assert (reader.size(), reader.read(0, 10)) == (0, ([], b""))
    writer.append(1, b"out")
    writer.append(2, b"error")
    spans, data = reader.read(1, 4)
    assert data == b"uter"
    assert [span[:3] for span in spans] == [(1, 2, 1), (3, 2, 2)]
    assert reader.size() == writer.size == 8


def test_segments_are_freed_whole_and_never_the_last(tmp_path: Path) -> None:
    writer = SpoolWriter(str(tmp_path), 2**30, lambda _: None)
    for _ in range(5):
        writer.append(1, b"x" * spool.SEGMENT)
    reader = SpoolReader(str(tmp_path))
    reader.free(2 * spool.SEGMENT + 1)
    assert reader.start() == 2 * spool.SEGMENT
    reader.free(writer.size)
    assert reader.start() == 4 * spool.SEGMENT
    assert reader.read(4 * spool.SEGMENT, 10)[1] == b"x" * 10


def test_a_full_spool_makes_the_writer_wait_for_the_reader(tmp_path: Path) -> None:
    reader = SpoolReader(str(tmp_path))
    waits = []

    def waiting(what: str) -> None:
        waits.append(what)
        reader.free(reader.size())

    writer = SpoolWriter(str(tmp_path), 3 * spool.SEGMENT, waiting)
    sent = b""
    for number in range(8):
        writer.append(1, bytes([number]) * spool.SEGMENT)
    assert waits
    assert set(waits) == {"spool"}
    start = reader.start()
    while start + len(sent) < reader.size():
        sent += reader.read(start + len(sent), 2**20)[1]
    assert sent == b"".join(bytes([n]) * spool.SEGMENT for n in range(start // spool.SEGMENT, 8))
