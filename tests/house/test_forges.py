"""A forge's name stands in its folder: elsewhere only where it is said here, and why."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from provisioner.forges.registry import known

from .places import TOP, sources

FORGES = TOP / "provisioner/forges"
_LANGUAGE = "the variables of Actions, which are GitHub's by name and Gitea's and Forgejo's as well"
# Whole modules.
MAY_NAME = {
    "provisioner/forges/actions.py": _LANGUAGE,
    "provisioner/forges/gitea/__init__.py": _LANGUAGE,
}
# Single texts, for people: a forge that has no such thing is not to be named in them.
MAY_SAY = {
    "provisioner/settings.py": "a GitLab job's own token for RUNNER_SERVER (`id_tokens`), instead of RUNNER_TOKEN",
    "provisioner/cli/commands/launch.py": "Write the labels as variables (GitLab: runner.env).",
    "provisioner/cli/commands/cml.py": "` are added, as GitHub's program did, and the run's own label",
}
_ALSO = {"gitea": ("forgejo", "codeberg")}  # by which a kind is known, too


def test_no_forge_is_named_outside_its_folder() -> None:
    named = {f"{name}: {text[:80]!r}" for name, text in _named() if name not in MAY_NAME}
    assert named == {f"{name}: {text[:80]!r}" for name, text in MAY_SAY.items()}


def test_what_may_name_one_does() -> None:
    assert MAY_NAME.keys() - {name for name, _ in _named()} == set()


def _named() -> Iterator[tuple[str, str]]:
    """Modules with each name or text in them that has another forge's name in it. Comments and docstrings, which give
    sources and examples, are free to."""
    words = {str(one.kind): (one.kind, one.name.lower(), *_ALSO.get(one.kind, ())) for one in known()}
    for path in sources("provisioner", "agent"):
        others = [word for kind, some in words.items() if not path.is_relative_to(FORGES / kind) for word in some]
        pattern = re.compile("|".join(others), re.I)
        yield from ((str(path.relative_to(TOP)), text) for text in _texts(path) if pattern.search(text))


def _texts(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value
        for field in ("id", "attr", "arg", "name", "asname", "module"):
            if isinstance(value := getattr(node, field, None), str):
                yield value
