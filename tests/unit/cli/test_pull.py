"""`runner pull`: verified, resumed, and never half a file."""

from __future__ import annotations

import json
import os
import stat

import pytest

from tests.fakes.api_server import FakeApi, Script
from tests.fakes.bucket import bucket

from .terminal import Terminal

FILES = {"metrics.json": b"{}", "plots/deep/a.png": b"png" * 1000, "empty": b""}


@pytest.fixture
def job(api: FakeApi) -> str:
    api.script = Script(files=dict(FILES))
    return str(api.submit("j-1", {"run": "x"})["id"])


def test_files_arrive_with_their_bytes_and_modes(terminal: Terminal, api: FakeApi, job: str) -> None:
    done = terminal.run("pull", job, "out")
    assert done.returncode == 0, done.stderr
    top = terminal.folder / "out"
    found = {str(p.relative_to(top)): p.read_bytes() for p in top.rglob("*") if p.is_file()}
    assert found == FILES
    assert stat.S_IMODE((top / "metrics.json").stat().st_mode) == 0o755


def test_without_a_folder_they_go_into_one_named_after_the_job(terminal: Terminal, api: FakeApi, job: str) -> None:
    told = json.loads(terminal.run("pull", job, "--json").stdout)
    assert sorted(one["id"] for one in told) == sorted(FILES)
    assert (terminal.folder / job / "metrics.json").read_bytes() == b"{}"


def test_what_is_here_already_is_not_fetched_again(terminal: Terminal, api: FakeApi, job: str) -> None:
    terminal.run("pull", job, "out")
    (terminal.folder / "out/metrics.json").write_text("[]")
    api.asked.clear()
    terminal.run("pull", job, "out")
    assert [path for _, path, _ in api.asked if "/files/" in path] == ["/jobs/j-1/results/1/files/metrics.json"]
    assert (terminal.folder / "out/metrics.json").read_bytes() == b"{}"


def test_bytes_that_are_not_what_was_recorded_are_never_shown(terminal: Terminal, api: FakeApi, job: str) -> None:
    api.manifest = api.results()
    api.script.files["metrics.json"] = b"[]"
    done = terminal.run("pull", job, "out")
    assert done.returncode == 1
    assert "metrics.json does not arrive as it was recorded" in done.stderr
    assert not (terminal.folder / "out/metrics.json").exists()


@pytest.mark.parametrize("path", ["../outside", "/outside", "a/../../outside", "../outer/x", "a//b", "./a", ""])
def test_a_path_that_leaves_the_folder_is_refused(terminal: Terminal, api: FakeApi, job: str, path: str) -> None:
    api.script.files = {path: b"x"}
    done = terminal.run("pull", job, "out")
    assert done.returncode == 3
    assert f"{path!r} would be written outside out" in done.stderr
    assert list(terminal.folder.iterdir()) == []


def test_a_link_in_the_folder_is_not_written_through(terminal: Terminal, api: FakeApi, job: str) -> None:
    (terminal.folder / "elsewhere").mkdir()
    (terminal.folder / "out").mkdir()
    (terminal.folder / "out/plots").symlink_to("../elsewhere")
    done = terminal.run("pull", job, "out")
    assert (done.returncode, list((terminal.folder / "elsewhere").iterdir())) == (3, [])


def test_a_link_in_the_place_of_a_file_is_replaced_and_what_it_names_is_left_alone(
    terminal: Terminal, api: FakeApi, job: str
) -> None:
    (terminal.folder / "mine").write_text("mine")
    (terminal.folder / "out").mkdir()
    (terminal.folder / "out/metrics.json").symlink_to("../mine")
    assert terminal.run("pull", job, "out").returncode == 0
    assert (terminal.folder / "mine").read_text() == "mine"
    assert (terminal.folder / "out/metrics.json").read_bytes() == b"{}"


def test_this_very_folder_will_do(terminal: Terminal, api: FakeApi, job: str) -> None:
    assert terminal.run("pull", job, ".").returncode == 0
    assert (terminal.folder / "metrics.json").read_bytes() == b"{}"


def test_a_transfer_that_breaks_again_and_again_goes_on_where_it_broke(
    terminal: Terminal, api: FakeApi, job: str
) -> None:
    api.script.files = {"weights": bytes(range(256)) * 400}
    api.cut_file_after = 10_000
    done = terminal.run("pull", job, "out")
    assert done.returncode == 0, done.stderr
    assert [p.name for p in (terminal.folder / "out").iterdir()] == ["weights"]
    assert (terminal.folder / "out/weights").read_bytes() == api.script.files["weights"]


def test_files_come_straight_from_the_object_store(terminal: Terminal, api: FakeApi, job: str) -> None:
    """Over kept connections; what the store refuses, or breaks off, is had from the controller."""
    files = {f"{n}": b"%d" % n * 1000 for n in range(100)} | {"large": os.urandom(20 * 2**20)}
    api.script.files = dict(files)
    with bucket(files, cut={"large"}) as store:
        api.links = {path: f"{store.url}/{path}?signed=yes" for path in files} | {"7": f"{store.url}/absent?signed=no"}
        done = terminal.run("pull", job, "out")
    assert done.returncode == 0, done.stderr
    assert {p.name: p.read_bytes() for p in (terminal.folder / "out").iterdir()} == files
    assert sorted(path for _, path, _ in api.asked if "/files/" in path) == [
        "/jobs/j-1/results/1/files/7",
        "/jobs/j-1/results/1/files/large",
    ]
    assert len(api.sent("POST", "/jobs/j-1/results/1/links")) == 1
    assert store.connections < 40


def test_a_file_that_is_called_part_is_nobodys_part(terminal: Terminal, api: FakeApi, job: str) -> None:
    api.script.files = {"a": b"one", "a.part": b"other"}
    assert terminal.run("pull", job, "out").returncode == 0
    assert (terminal.folder / "out/a").read_bytes() == b"one"
    assert (terminal.folder / "out/a.part").read_bytes() == b"other"


def test_a_folder_in_the_place_of_a_file_is_one_line(terminal: Terminal, api: FakeApi, job: str) -> None:
    (terminal.folder / "out/metrics.json").mkdir(parents=True)
    done = terminal.run("pull", job, "out")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "cannot write out/metrics.json: Is a directory" in done.stderr


def test_no_results_yet(terminal: Terminal, api: FakeApi, job: str) -> None:
    api.script.files = {}
    api.jobs[job]["phase"] = "running"
    done = terminal.run("pull", job)
    assert (done.returncode, done.stderr) == (
        1,
        "runner: j-1 has no results yet; it has them once an output was synced\n",
    )


def test_no_results_at_all(terminal: Terminal, api: FakeApi, job: str) -> None:
    api.script.files = {}
    done = terminal.run("pull", job)
    said = "runner: j-1 ended without any results; `runner show j-1` says what it was to leave\n"
    assert (done.returncode, done.stderr) == (1, said)
