"""`runner gate`: its exit code, and what it says."""

from __future__ import annotations

import json

import pytest

from .terminal import Terminal

JUNIT = '<testsuite><testcase name="a"/><testcase name="b"><failure message="no"/></testcase></testsuite>'


@pytest.fixture
def here(terminal: Terminal) -> Terminal:
    (terminal.folder / "metrics.json").write_text('{"val": {"acc": 0.9}, "loss": 2, "odd-name": 1, "none": NaN}')
    (terminal.folder / "base.json").write_text('{"val": {"acc": 0.8}, "loss": 1}')
    (terminal.folder / "junit.xml").write_text(JUNIT)
    return terminal


def test_all_that_fail_are_told_and_by_how_much(here: Terminal) -> None:
    done = here.run(
        *("gate", "--metric", "val.acc >= 0.92", "--metric", "loss <= base * 1.05", "--metric", "loss > 1"),
        *("--metric", "none < 1", "--base", "base.json", "--junit", "junit.xml"),
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        "failed: val.acc >= 0.92: 0.9 against 0.92, off by 0.02, 2.17%",
        "failed: loss <= base * 1.05: 2 against 1.05, off by 0.95, 90.5%",
        "passed: loss > 1 (2)",
        "failed: none < 1: its left side is not a number",
        "failed: junit.failures == 0: 1 against 0, off by 1",
        "passed: junit.errors == 0 (0)",
        "passed: junit.tests > 0 (2)",
    ]


def test_all_that_pass_are_the_exit_code_0(here: Terminal) -> None:
    words = ["--metric", '"odd-name" == 1', "--metric", "junit.failures <= 1", "--junit", "junit.xml", "--json"]
    done = here.run("gate", *words)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [(one["id"], one["passed"]) for one in told] == [
        ('"odd-name" == 1', True),
        ("junit.failures <= 1", True),
        ("junit.errors == 0", True),
        ("junit.tests > 0", True),
    ]
    assert told[0]["value"] == 1.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--metric", "acc > 1"],
            "there is no metric 'acc'; did you mean 'val.acc'? there are val.acc, loss, odd-name, none",
        ),
        (["--metric", "loss >"], "gate loss >», column 7: expected a number, a metric or ("),
        (["--metric", "loss > 1", "--metrics", "absent.json"], "cannot read absent.json: No such file or directory"),
        (["--metric", "loss < base"], "loss < base: there is no base: this is no pull request"),
        (["--metric", "none < base", "--base", "base.json"], "the base of none < base: there is no metric 'none'"),
        (["--metric", "loss > 1", "--base", "x", "--metric", "loss < base"], "there is no file and no commit 'x' here"),
        (["--junit", "absent.xml"], "cannot read absent.xml"),
        (["--junit", "metrics.json"], "metrics.json:1: not XML"),
        ([], "nothing to judge"),
    ],
)
def test_what_cannot_be_judged_is_one_line_and_the_exit_code_2(here: Terminal, words: list[str], said: str) -> None:
    done = here.run("gate", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"runner: {said}")


def test_without_a_file_of_metrics_it_says_so(terminal: Terminal) -> None:
    done = terminal.run("gate", "--metric", "loss > 1")
    assert (done.returncode, done.stderr) == (2, "runner: there is no metrics.json here; name files with --metrics\n")


def test_dvclives_folder_is_a_usual_place(terminal: Terminal) -> None:
    (terminal.folder / "dvclive").mkdir()
    (terminal.folder / "dvclive/metrics.json").write_text('{"loss": 1}')
    assert terminal.run("gate", "--metric", "loss == 1").returncode == 0
