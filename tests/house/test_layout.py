"""The tree is laid out as the architecture says, and says nothing of the machine it was made on."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import warnings
from pathlib import Path

from .places import TOP, files, sources

LONGEST = 400
LOOK_AGAIN = 250
BANNED = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
# Homes, workplaces and build folders of some one machine. What a program itself uses (/proc, /tmp, /usr) is no secret.
_MACHINE = re.compile(r"(?<![\w.~$}])/(?:home|root|work|Users|opt|mnt|build|builds|workspace)/[\w.-]+")
_REGISTRY = re.compile(r"\b(?:pypi\.org|pythonhosted\.org|npmjs\.|index-url|find-links|trusted-host)", re.I)
_MAY_SAY = {"tests/house/test_layout.py"}


def test_every_boundary_holds() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_domain_imports_the_standard_library_only() -> None:
    foreign = {
        f"{path.relative_to(TOP)}: {name}"
        for path in sources("provisioner")
        if path.is_relative_to(TOP / "provisioner/domain")
        for name in _imported(path)
        if name not in sys.stdlib_module_names
    }
    assert foreign == set()


def test_the_agent_imports_the_standard_library_only() -> None:
    foreign = {
        f"{path.relative_to(TOP)}: {name}"
        for path in sources("agent")
        for name in _imported(path)
        if name not in sys.stdlib_module_names and name != "agent"
    }
    assert foreign == set()


def _imported(path: Path) -> set[str]:
    """Top names of what a module imports from outside its own package."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


def test_nothing_mocks_what_we_do_not_own() -> None:
    assert [str(p.relative_to(TOP)) for p in sources("tests") if "unittest" in _imported(p)] == []


def test_every_folder_of_tests_is_a_package() -> None:
    bare = {
        str(path.parent.relative_to(TOP)) for path in sources("tests") if not (path.parent / "__init__.py").exists()
    }
    assert bare == set()


def test_no_module_has_a_name_that_says_nothing() -> None:
    named = [
        str(path.relative_to(TOP))
        for path in sources("provisioner", "agent", "tests")
        if BANNED & {path.stem, *path.relative_to(TOP).parts[:-1]}
    ]
    assert named == []


def test_every_module_tells_its_story() -> None:
    silent = [
        str(path.relative_to(TOP))
        for path in sources("provisioner", "agent", "tests")
        if path.name != "__init__.py" and ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert silent == []


def test_no_module_is_too_long() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in sources("provisioner", "agent", "tests")}
    for path, lines in sorted(lengths.items(), key=lambda pair: -pair[1]):
        if LOOK_AGAIN < lines <= LONGEST:
            warnings.warn(f"{path.relative_to(TOP)} has {lines} lines: look again", stacklevel=1)
    assert {str(p.relative_to(TOP)): n for p, n in lengths.items() if n > LONGEST} == {}


def test_no_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    assert _matches(_MACHINE) == []


def test_no_file_names_a_package_registry() -> None:
    assert _matches(_REGISTRY) == []


def test_requirements_are_pinned_by_hash_and_name_no_place() -> None:
    for path in (p for p in files() if p.name == "requirements.txt"):
        entries = re.split(r"\n(?=\S)", path.read_text().strip())
        assert [e for e in entries if not re.match(r"[\w.\[\]-]+==\S+.*--hash=sha256:", e, re.S)] == [], path
        assert "://" not in path.read_text()


def _matches(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for path in files():
        name = str(path.relative_to(TOP))
        if name in _MAY_SAY:
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{name}: {m[0]}" for m in pattern.finditer(text)]
    return found
