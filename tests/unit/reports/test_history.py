"""Metrics as they were: at a commit, where a pull request began, and what is said where git cannot tell."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from provisioner.domain.errors import InvalidRequest, NotFound
from provisioner.domain.metrics import Source
from provisioner.reports.found import Found
from provisioner.reports.gather import BaseOf, with_base
from provisioner.reports.history import commit_of, merge_base, metrics_at


def git(folder: Path, *words: str) -> str:
    quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    environment = {**os.environ, **quiet}
    said = subprocess.check_output(["git", *who, *words], cwd=folder, env=environment, stderr=subprocess.DEVNULL)
    return said.decode().strip()


def commit(folder: Path, text: str, name: str = "out/metrics.json") -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "x")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """main went on after a branch was taken from it; HEAD is on the branch."""
    folder = tmp_path / "repo"
    folder.mkdir()
    git(folder, "init", "-qb", "main")
    commit(folder, '{"loss": 1}')
    git(folder, "checkout", "-qb", "topic")
    git(folder, "checkout", "-q", "main")
    commit(folder, '{"loss": 9}')
    git(folder, "checkout", "-q", "topic")
    commit(folder, '{"loss": 2}')
    return folder


def now() -> Found:
    return Found(metrics=[Source("out/metrics.json", {"loss": 2.0}), Source("new.json", {"a": 1.0})])


def test_a_pull_request_is_compared_with_where_it_began(repo: Path) -> None:
    found = now()
    assert with_base(found, BaseOf(branch="main"), repo) == ("main", "")
    assert found.base == [Source("out/metrics.json", {"loss": 1.0})]


def test_a_commit_that_the_forge_told_comes_first(repo: Path) -> None:
    told = git(repo, "rev-parse", "main")
    assert merge_base("main", repo, told) == told
    assert merge_base("main", repo, "0" * 40) == git(repo, "rev-parse", "main~1")


def test_a_branch_or_file_may_be_named(repo: Path) -> None:
    found = now()
    assert with_base(found, BaseOf("main"), repo) == ("main", "")
    assert found.base == [Source("out/metrics.json", {"loss": 9.0})]
    (repo / "old.json").write_text('{"loss": 5}')
    assert with_base(found := now(), BaseOf("old.json"), repo) == ("old.json", "")
    assert found.base == [Source("old.json", {"loss": 5.0})]


def test_a_folder_below_the_repository_reads_its_own_files(repo: Path) -> None:
    assert metrics_at("main", ["metrics.json"], repo / "out") == [Source("metrics.json", {"loss": 9.0})]
    with pytest.raises(InvalidRequest, match="not below this folder"):
        metrics_at("main", ["../x.json"], repo / "out")


@pytest.mark.parametrize("ref", ["nowhere", "--output=x", "main:out", "", "-h"])
def test_what_is_neither_file_nor_commit_is_refused(repo: Path, ref: str) -> None:
    with pytest.raises(NotFound, match="no file and no commit"):
        commit_of(ref, repo)
    assert not (repo / "x").exists()


def test_a_shallow_checkout_says_that_it_cannot_tell(repo: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--depth=1", "--branch=topic", f"file://{repo}", "shallow")
    assert with_base(now(), BaseOf(branch="main"), tmp_path / "shallow") == (
        "",
        "this checkout does not know where it left main: fetch its history (fetch-depth: 0)",
    )


def test_a_base_without_the_files_is_none(repo: Path) -> None:
    found = Found(metrics=[Source("new.json", {"a": 1.0})])
    assert with_base(found, BaseOf("main"), repo) == ("main", "main had none of these files")


def test_outside_of_git_and_ci_there_is_none_by_default(tmp_path: Path) -> None:
    assert merge_base("main", tmp_path) == ""
    assert with_base(now(), BaseOf(), tmp_path)[1] == "this is no pull request, so there is none by default"
