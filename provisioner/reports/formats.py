"""Trees of numbers as DVC keeps them: JSON, YAML 1.2 and TOML, told apart by the file's name.

They are somebody else's: what cannot be read is said in one line, with its place where there is one.
"""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

from provisioner.domain.errors import InvalidRequest

YAML = (".yaml", ".yml")


def tree(data: bytes, name: str) -> Any:
    """Raises: InvalidRequest."""
    suffix = PurePath(name).suffix.lower()
    if suffix in (".tsv", ".csv"):
        raise InvalidRequest(f"{name} is a series, not metrics", hint="name it with --plots")
    kind, read = ("YAML", _yaml) if suffix in YAML else ("TOML", _toml) if suffix == ".toml" else ("JSON", _json)
    try:
        return read(data.decode(), name)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{name} is not UTF-8 text") from error
    except (RecursionError, ValueError) as error:
        said = str(error).partition(";")[0]
        raise InvalidRequest(f"{name}: not {kind} that anybody reads: {said}") from error


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"{name}:{error.lineno}: not JSON: {error.msg}") from error


def _toml(text: str, name: str) -> Any:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidRequest(f"{name}: not TOML: {error}") from error


def _yaml(text: str, name: str) -> Any:
    import yaml

    from provisioner import plain_yaml

    try:
        return plain_yaml.data(text)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InvalidRequest(f"{name}{line}: not YAML that is read here: {error.problem}") from error
    except yaml.YAMLError as error:
        raise InvalidRequest(f"{name}: not YAML: {str(error).splitlines()[0]}") from error
