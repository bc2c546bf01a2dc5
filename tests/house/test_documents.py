"""The documents and the code say the same."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.domain.job import AttemptPhase, InstancePhase, JobPhase
from provisioner.settings import ENVIRONMENT

from . import scan
from .commands import check_line
from .draw import TABLES
from .generate import generated
from .places import DOCS, TOP, documents, files

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.S | re.M)


def test_every_generated_page_is_what_the_code_says() -> None:
    stale = [str(path.relative_to(TOP)) for path, text in generated() if not path.exists() or path.read_text() != text]
    assert stale == [], "run `python -m tests.house.generate`"


def test_every_lifecycle_is_drawn() -> None:
    shown = re.findall(r"<!-- drawn: (\w+) -->", (DOCS / "explanation/architecture.md").read_text())
    assert sorted(shown) == sorted(TABLES)


def test_every_phase_has_a_line_in_its_table() -> None:
    for name, phases in (("instance", InstancePhase), ("job", JobPhase), ("attempt", AttemptPhase)):
        assert list(TABLES[name]) == list(phases) or set(TABLES[name]) == set(phases)


def test_no_variable_is_read_that_is_not_documented() -> None:
    for_others = {"RUNNER_ATTEMPT_KEY", "RUNNER_INSTANCE"}  # marks on processes, by which they are found again
    for_others |= {"RUNNER_LABEL", "RUNNER_LABELS", "RUNNER_JOBS", "RUNNER_TRACKING_ID"}  # for a CI, and of one
    assert scan.read_by_us() - for_others - set(ENVIRONMENT) == set()


def test_every_relative_link_leads_somewhere() -> None:
    broken = []
    for document in documents():
        for target in _LINK.findall(document.read_text()):
            path = target.partition("#")[0]
            if "://" not in target and path and not (document.parent / path).exists():
                broken.append(f"{document.relative_to(TOP)}: {target}")
    assert broken == []


def test_every_page_is_linked_from_somewhere() -> None:
    linked = {
        (document.parent / target.partition("#")[0]).resolve()
        for document in documents()
        for target in _LINK.findall(document.read_text())
        if "://" not in target
    }
    pages = {path for path in documents() if path.is_relative_to(DOCS)}
    alone = sorted(str(page.relative_to(TOP)) for page in pages if not linked & {page, *page.parents})
    assert alone == []


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(TOP)))
def test_every_command_shown_exists_with_its_options(document: Path) -> None:
    wrong = [f"{line}: {why}" for line in _commands(document.read_text()) if (why := check_line(shlex.split(line)))]
    assert wrong == []


def _commands(text: str) -> Iterator[str]:
    """Lines of shell blocks that call `runner`, comments cut off, and continued lines joined."""
    for language, block in _FENCE.findall(text):
        if language != "sh":
            continue
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\||;", line.partition(" #")[0]):
                words = part.strip().removeprefix("$ ")
                if re.match(r"(\S*/)?runner\s", words):
                    yield words


def test_decisions_are_numbered_without_a_gap_and_all_listed() -> None:
    numbers = sorted(path.name[:4] for path in (DOCS / "decisions").glob("[0-9]*.md"))
    assert numbers == [f"{n:04d}" for n in range(1, len(numbers) + 1)]
    index = (DOCS / "decisions/README.md").read_text()
    assert [n for n in numbers if f"({n}-" not in index] == []


def test_nobody_is_told_to_install_us_by_our_name() -> None:
    """On the public package index it is a stranger's. `NAME[EXTRA] @ ADDRESS` is taken from the address."""
    by_name = re.compile(
        r"gpu-runner\[[^\]]*\](?! @ )|(?:pip|uv|pipx)3? (?:tool )?install [^\n]*(?<![\w/.-])gpu-runner\b(?!\[)"
    )
    said = [path for path in files() if path.relative_to(TOP).parts[0] in ("docs", ".github", "provisioner", "agent")]
    texts = {path: path.read_text(errors="replace") for path in (*said, TOP / "README.md")}
    assert [str(path.relative_to(TOP)) for path, text in texts.items() if by_name.search(text)] == []
