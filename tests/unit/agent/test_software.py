"""The forge's program: the very one that was ordered, wherever it came from, and never outside of its folder."""

from __future__ import annotations

import dataclasses
import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import wire
from agent.config import Home
from agent.inputs import Cancelled, InputError
from agent.link import Unreachable
from agent.machine import Machine
from agent.programs import SoftwareError
from agent.software import fetched, install

from .forge import Forge, forge

CONFIG = wire.AgentConfig(instance="i1", name="i1", urls=["http://127.0.0.1:9"], join_token="t", on_end="exit")
PROGRAM = "bin/Runner.Listener"


@pytest.fixture
def site() -> Iterator[Forge]:
    with forge() as made:
        yield made


@pytest.fixture
def place(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Install it into a new folder below `tmp_path`, as a new attempt of one machine."""
    home = Home(str(tmp_path / "state"))
    home.make()
    machine = Machine(home, CONFIG, [])

    def once(order: wire.RunnerOrder, name: str = "one", unwanted: bool = False) -> dict[str, Any]:
        (tmp_path / name).mkdir()
        return install(machine, order, str(tmp_path / name), lambda: unwanted)

    return once


def tar(*entries: tuple[str, bytes, str]) -> bytes:
    """(name, content, where a link leads)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data, link in entries:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            if link:
                entry.type, entry.linkname = tarfile.SYMTYPE, link
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def image(folder: Path, version: str) -> str:
    """A folder of an image with this version of the program, and what an earlier runner left in it."""
    (folder / "bin").mkdir(parents=True)
    (folder / PROGRAM).write_text(f"#!/bin/sh\necho {version}\n")
    (folder / PROGRAM).chmod(0o755)
    (folder / ".credentials").write_text("somebody's")
    return str(folder)


def test_it_is_fetched_once_for_all_attempts_of_a_machine(site: Forge, place: Any, tmp_path: Path) -> None:
    order = site.order()
    facts = place(order, "one")
    place(order, "two")
    assert len(site.asked) == 1
    assert facts["from"] == order.software_url
    assert (tmp_path / "two" / PROGRAM).read_bytes() == (tmp_path / "one" / PROGRAM).read_bytes()
    assert os.readlink(tmp_path / "two/bin/Runner.Worker") == "Runner.Listener"


def test_a_download_that_broke_off_goes_on_where_it_was(site: Forge, place: Any) -> None:
    site.cut = 500
    order = site.order()
    with pytest.raises(Unreachable):
        place(order, "one")
    place(order, "two")
    assert site.asked == [("GET", ""), ("GET", "bytes=500-")]


def test_one_that_was_replaced_meanwhile_is_fetched_from_its_beginning(site: Forge, place: Any) -> None:
    right = site.order()
    site.publish(os.urandom(2000))
    site.cut = 500
    with pytest.raises(Unreachable):
        place(right)
    place(site.order(), "two")
    assert site.asked[1:] == [("GET", "bytes=500-"), ("GET", "")]


def test_a_wrong_checksum_is_said_once_and_nothing_is_unpacked(site: Forge, place: Any, tmp_path: Path) -> None:
    order = dataclasses.replace(site.order(), sha256="0" * 64)
    with pytest.raises(SoftwareError, match=f"is not what was ordered: its sha256 is {site.order().sha256}, not 00000"):
        place(order)
    assert list((tmp_path / "one").iterdir()) == []
    assert list((tmp_path / "state/cache/software").iterdir()) == []


def test_what_rotted_in_the_cache_is_fetched_again(site: Forge, place: Any, tmp_path: Path) -> None:
    order = site.order()
    place(order, "one")
    (tmp_path / "state/cache/software" / order.sha256).write_bytes(b"rot")
    place(order, "two")
    assert len(site.asked) == 2


def test_it_follows_where_it_is_sent_but_not_out_of_https(site: Forge, place: Any) -> None:
    order = site.order(software_url=f"{site.url}/moved")
    site.moved["/moved"] = "/software/program"
    place(order, "one")
    site.moved["/moved"] = "http://192.0.2.1/program"
    with pytest.raises(SoftwareError, match=r"'http://192\.0\.2\.1/program' is no https address"):
        place(dataclasses.replace(order, sha256="0" * 64), "two")
    site.moved["/moved"] = "/moved"
    with pytest.raises(SoftwareError, match="leads from one place to the next"):
        place(dataclasses.replace(order, sha256="0" * 64), "three")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"software_url": "ftp://127.0.0.1/x"}, "is no https address"),
        ({"sha256": ""}, "was ordered without a sha256"),
        ({"program": {}}, "'actions-runner' was ordered without a word of how it is run"),
    ],
)
def test_an_order_that_cannot_be_met(site: Forge, place: Any, change: dict[str, Any], said: str) -> None:
    with pytest.raises(SoftwareError, match=said):
        place(dataclasses.replace(site.order(), **change))


def test_what_is_not_there_is_not_asked_for_again(site: Forge, place: Any) -> None:
    with pytest.raises(SoftwareError, match="/software/none answered 404"):
        place(site.order(software_url=f"{site.url}/software/none?signature=s"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (tar(("../outside", b"x", "")), "'../outside' lies outside of it"),
        (tar((PROGRAM, b"x", ""), ("ln", b"", "../..")), "the link 'ln' leads out of it"),
        (tar(("bin", b"", "/etc"), (PROGRAM, b"x", "")), "cannot be unpacked|exists"),
        (tar(("README", b"x", "")), f"has no {PROGRAM}"),
        (tar((PROGRAM, b"x" * 9999, ""))[:-20], "cannot be unpacked"),
    ],
    ids=["outside", "link-outside", "through-a-link", "without-the-program", "torn"],
)
def test_an_archive_that_is_not_well_is_refused(site: Forge, place: Any, data: bytes, said: str) -> None:
    with pytest.raises((SoftwareError, OSError), match=said):
        place(site.order(data=data))
    assert not Path("/etc/Runner.Listener").exists()


def test_a_zip_and_a_plain_program(site: Forge, place: Any, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo(PROGRAM)
        entry.external_attr = 0o100755 << 16
        archive.writestr(entry, b"zipped")
    place(site.order(data=buffer.getvalue()), "one")
    place(site.order("gitlab", b"\x7fELF and so on"), "two")
    assert (tmp_path / "one" / PROGRAM).read_bytes() == b"zipped"
    assert (tmp_path / "two/gitlab-runner").read_bytes() == b"\x7fELF and so on"
    assert os.access(tmp_path / "one" / PROGRAM, os.X_OK)
    assert os.access(tmp_path / "two/gitlab-runner", os.X_OK)


def test_a_preinstalled_copy_is_used_if_it_is_exactly_that_version(site: Forge, place: Any, tmp_path: Path) -> None:
    folders = [str(tmp_path / "none"), image(tmp_path / "old", "2.330.0.1"), image(tmp_path / "right", "2.330.0")]
    facts = place(site.order(preinstalled=folders))
    assert (facts["from"], site.asked) == (folders[2], [])
    assert (tmp_path / "one" / PROGRAM).read_text() == "#!/bin/sh\necho 2.330.0\n"
    assert not (tmp_path / "one/.credentials").exists()


def test_a_preinstalled_copy_that_does_not_run_is_passed_over(site: Forge, place: Any, tmp_path: Path) -> None:
    folder = image(tmp_path / "broken", "2.330.0; exit 3")
    assert place(site.order(preinstalled=[folder]))["from"].startswith("http")


def test_an_attempt_that_is_not_wanted_any_more_stops_fetching(site: Forge, place: Any) -> None:
    with pytest.raises(Cancelled):
        place(site.order(), unwanted=True)


def test_one_that_does_not_say_how_long_it_is_and_broke_off_is_fetched_again(site: Forge, place: Any) -> None:
    site.mute, site.cut = True, 500
    order = site.order()
    with pytest.raises(Unreachable, match="broke off, or is not what was ordered"):
        place(order, "one")
    place(order, "two")
    assert site.asked == [("GET", ""), ("GET", "")]


def test_one_that_does_not_say_how_long_it_is_cannot_fill_the_disk(site: Forge, tmp_path: Path) -> None:
    site.mute = True
    home = Home(str(tmp_path / "state"))
    home.make()
    with pytest.raises(InputError, match="it does not say how long it is, and 500 bytes came"):
        fetched(Machine(home, CONFIG, []), site.order(), lambda: False, most=500)
    assert list((tmp_path / "state/cache/software").iterdir()) == []


def test_a_disk_without_room_is_said_before_it_is_full(site: Forge, place: Any) -> None:
    site.announced = 2**60
    with pytest.raises(InputError, match="no room for the runner's program: 5764607523034234880 bytes are needed"):
        place(site.order())
