"""`.runnerignore` means what git would make of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.cli.ignore import Ignore

PATHS = [
    *("a", "b", "ab", "a.b", "a/a", "a/b", "a/ab", "b/a/b", "b/a.b/a", "a/b/ab/a.b", "ab/b", "data/x", "src/data/x"),
    *("src/data/y/z", "logs/a.log", "a.log", "keep/a.log", "[a]", "a b", "!a", "#a"),
]


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ignore")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return folder


def by_git(repository: Path, text: str) -> set[str]:
    (repository / ".git/info/exclude").write_text(text)
    done = subprocess.run(
        ["git", "-C", str(repository), "check-ignore", "-z", "--stdin", "--no-index"],
        input="\0".join(PATHS).encode(),
        capture_output=True,
        check=False,
    )
    return set(filter(None, done.stdout.decode().split("\0")))


def by_us(text: str) -> set[str]:
    rules = Ignore(text)
    return {path for path in PATHS if rules.file(path)}


RULES = [
    *("data/\n", "/data\n", "*.log\n!keep/a.log\n", "a\n", "/a\n", "a/\n", "a/b\n", "**/a\n", "a/**\n", "a/**/b\n"),
    *("*\n!a\n", "*\n!*/\n!*.log\n", "# a\n", "\\#a\n", "\\!a\n", "a \n", "a\\ b\n", "[ab]\n", "[!a]\n", "[a-b]b\n"),
    *("?\n", "a?b\n", "a*\n", "*/b\n", "**\n", "src/**/z\n", "src/*/z\n", "\\[a]\n", "", "\n\n", "/\n", "/*\n!/a\n"),
]


@pytest.mark.parametrize("text", RULES)
def test_each_kind_of_rule_is_read_as_git_reads_it(repository: Path, text: str) -> None:
    assert by_us(text) == by_git(repository, text)


lines = st.text(alphabet="ab./*?!", min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(st.lists(lines, min_size=1, max_size=4))
def test_rules_nobody_would_write_are_read_as_git_reads_them(repository: Path, found: list[str]) -> None:
    text = "\n".join(found) + "\n"
    assert by_us(text) == by_git(repository, text), text
