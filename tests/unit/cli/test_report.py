"""`runner report` and `runner comment`: from files here, from a job, watched, and where nothing can be posted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from provisioner.cli.commands.comment import command as comment
from provisioner.cli.commands.report import _interrupted
from provisioner.cli.commands.report import command as report
from tests.fakes.api_server import FakeApi, Script
from tests.unit.reports.parsed import parse

from .terminal import Terminal

PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)
LOSS = "step\tloss\n" + "".join(f"{n}\t{1 / (n + 1)}\n" for n in range(5))
LEFT = {
    "metrics.json": b'{"loss": 0.25, "acc|<b>@team": 0.5}',
    "plots/loss.tsv": LOSS.encode(),
    "plots/confusion.png": PNG,
    "junit.xml": b'<testsuite time="2"><testcase name="a"><failure>why</failure></testcase></testsuite>',
    "model.bin": b"x",
}
READINGS = [
    ["2026-11-21T00:00:00+00:00", {"cpu": 0.5, "gpus": [{"utilization": use, "used_mib": 2048.0, "celsius": 60.0}]}]
    for use in (50.0, 100.0)
]


@pytest.fixture
def job(api: FakeApi) -> str:
    api.script = Script(files=dict(LEFT))
    api.readings = list(READINGS)
    return str(api.submit("j-1", {"name": "train", "run": "python train.py | tee log"})["id"])


def lay(folder: Path) -> None:
    for name, data in LEFT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def test_what_lies_here_becomes_markdown(terminal: Terminal) -> None:
    lay(terminal.folder)
    (terminal.folder / "base.json").write_text('{"loss": 0.5}')
    done = terminal.run("report", "--base", "base.json", "--lower-better", "loss", "--metric", "loss < base")
    assert done.returncode == 0, done.stderr
    found = parse(done.stdout)
    assert found.headings == ["Report", "Gates", "Metrics", "Tests", "Failed tests", "Charts", "Images"]
    assert found.tables[1] == [
        ["metric", "base.json", "now", "change", "in %"],
        ["loss", "0.5", "0.25", "-0.25 ▼ better", "-50.00%"],
        ["acc|<b>@team", "", "0.5", "", ""],
    ]
    assert found.tables[2][1] == ["junit.xml", "1", "1", "0", "0", "2.0 s"]
    assert [language for language, _ in found.fences] == ["", "mermaid"]
    assert found.images == [("plots/confusion.png", "plots/confusion.png")]
    assert found.foreign_html == []


def test_a_job_is_reported_with_its_run(terminal: Terminal, api: FakeApi, job: str) -> None:
    api.interruption = {"lived_s": 60.0, "lost_s": 3.0}
    done = terminal.run("report", job, "--publish", "--title", "Nightly")
    assert done.returncode == 0, done.stderr
    found = parse(done.stdout)
    assert found.headings[0] == "Nightly"
    run = {row[0]: row[1] for row in found.tables[-1][1:]}
    assert run == {
        "state": "succeeded",
        "command": "python train.py | tee log",
        "cost": "$0.25, estimated",
        "time": "setup 1.5 s, running 2.0 s",
        "machine": "2 CPUs",
        "GPU": "0: 75% used on average, 100% at most, 2.0 GiB, 60 C",
        "interrupted": "attempt 1 after 1 min 0 s, 3.0 s of work lost",
    }
    assert api.published == {"confusion.png": PNG}
    assert [url.partition("/confusion")[0] for _, url in found.images] == [f"https://objects.example/{_sha(PNG)[:8]}"]
    assert not [path for _, path, _ in api.asked if path.endswith("/files/model.bin")]


def test_images_that_are_here_for_the_command_alone_are_not_linked_to(
    terminal: Terminal, api: FakeApi, job: str
) -> None:
    done = terminal.run("report", job)
    assert (done.returncode, parse(done.stdout).images) == (0, []), done.stdout
    assert "confusion.png" in done.stdout


def _sha(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def test_several_jobs_stand_side_by_side(terminal: Terminal, api: FakeApi, job: str) -> None:
    api.submit("j-2", {"run": "x"})
    found = parse(terminal.run("report", job, "j-2").stdout)
    assert found.tables[0][0] == ["metric", "j-1", "j-2"]
    assert found.tables[0][1] == ["loss", "0.25", "0.25"]
    assert found.text.count("plots/loss: j-1 blue, j-2 orange") == 1


def test_svg_charts_are_written_and_shown_by_path(terminal: Terminal) -> None:
    lay(terminal.folder)
    done = terminal.run("report", "--charts", "svg", "--assets", "out/assets", "--output", "out/report.md")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    found = parse((terminal.folder / "out/report.md").read_text())
    assert ("plots/loss", "assets/plots-loss.svg") in found.images
    assert (terminal.folder / "out/assets/plots-loss.svg").read_text().startswith("<svg ")


def test_json_has_the_numbers_and_the_text(terminal: Terminal) -> None:
    (terminal.folder / "metrics.json").write_text('{"loss": NaN}')
    told = json.loads(terminal.run("report", "--json", "--summary", "summary.md").stdout)
    assert told["metrics"] == [{"id": "loss", "value": None, "base": None, "change": None}]
    assert told["conclusion"] == "neutral"
    assert (terminal.folder / "summary.md").read_text() == told["markdown"]


@pytest.mark.parametrize(
    ("words", "extra", "said"),
    [
        (["report", "--post"], {}, "this is no CI step, so it is not known where to post; give --repo and --target"),
        (
            ["report", "--post", "--repo", "https://github.com/a/b", "--target", "pr/1"],
            {},
            "no token for github; set RUNNER_FORGE_TOKEN or GITHUB_TOKEN in the step's environment",
        ),
        (["report", "--post", "--repo", "https://git.example.org/a/b", "--target", "pr/1"], {}, "what kind of forge"),
        (["comment", "create", "-", "--target", "pr/x"], {}, "this is no CI step"),
        (["comment", "create", "absent.md"], {"GITHUB_ACTIONS": "true"}, "this is no CI step"),
        (["report", "--watch"], {}, "--watch has nothing to keep up to date; add --post, or --output FILE"),
        (["report", "--charts", "svg"], {}, "SVG charts need a place; name a folder with --assets"),
        (["report", "--plots", "absent"], {}, "there is no absent"),
    ],
)
def test_what_cannot_be_is_one_line(terminal: Terminal, words: list[str], extra: dict[str, str], said: str) -> None:
    terminal.extra = extra
    done = terminal.run(*words, stdin="text")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"runner: {said}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        (comment, ["update", "notes.md", "--title", " "], "is empty"),
        (report, ["--post", "--title", ""], "is empty"),
        (report, [""], "is no name"),
        (report, ["j-1", ".."], "is no name"),
    ],
)
def test_what_has_no_name_is_refused(command: click.Command, words: list[str], said: str) -> None:
    """A comment without one would be another comment each time; a job without one is every job."""
    with pytest.raises(click.UsageError) as refused:
        command.main(words, standalone_mode=False)
    assert said in refused.value.format_message()


def test_what_is_no_text_is_not_posted(terminal: Terminal) -> None:
    """Where the locale is no UTF-8, Python would have read it as if it were."""
    program = [sys.executable, "-m", "provisioner", "comment", "create", "-"]
    words = ["--repo", "https://github.com/a/b", "--target", "pr/1"]
    environment = {**terminal.environment, "GITHUB_TOKEN": "x", "LC_ALL": "C"}
    done = subprocess.run([*program, *words], env=environment, input=b"\xff\xfe", capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (2, b"runner: - is not UTF-8 text\n")


def test_a_watched_report_follows_the_job_to_its_end(terminal: Terminal, api: FakeApi) -> None:
    api.script = Script(files={"metrics.json": b'{"loss": 1}'}, wait_for_cancel=True)
    api.submit("j-1", {"run": "x"})
    output = terminal.folder / "report.md"
    watching = terminal.begin("report", "j-1", "--watch", "--every", "1", "--output", "report.md")
    try:
        api.wait_for(lambda: output.exists() and "| `loss` | 1 |" in output.read_text())
        api.script.files = {"metrics.json": b'{"loss": 0.5}'}
        api.wait_for(lambda: "| `loss` | 0.5 |" in output.read_text())
        api.end("j-1", "succeeded", 0)
        assert watching.wait(20) == 0
    finally:
        watching.kill()
        watching.communicate()
    assert "| state | succeeded |" in output.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_delivers_the_last_state(terminal: Terminal, number: signal.Signals) -> None:
    """Nothing is there to report at first, which is no end either."""
    output, metrics = terminal.folder / "report.md", terminal.folder / "metrics.json"
    words = ["--every", "1h", "--metrics", "metrics.json", "--output", "report.md"]
    watching = terminal.begin("report", "--watch", *words)
    try:
        assert watching.stderr is not None
        assert b"it is tried again" in watching.stderr.readline()
        metrics.write_text('{"loss": 7}')
        watching.send_signal(number)
        assert watching.wait(20) == 0
    finally:
        watching.kill()
        watching.communicate()
    assert "| `loss` | 7 |" in output.read_text()


def test_a_signal_while_the_watch_begins_to_wait_is_heard() -> None:
    with _interrupted() as stop:
        with stop._cond:  # as for a moment in `stop.wait`
            signal.raise_signal(signal.SIGTERM)
        assert stop.wait(10)


def test_a_jobs_metrics_may_be_yaml(terminal: Terminal, api: FakeApi, job: str) -> None:
    api.script.files = {"eval/metrics.yaml": b"val:\n  acc: 9e-1\n"}
    done = terminal.run("report", job)
    assert done.returncode == 0, done.stderr
    assert ["val.acc", "0.9"] in [row[:2] for table in parse(done.stdout).tables for row in table]
