"""job.yaml and the options of `runner run`, made into one specification. Errors name the file and the line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from . import amounts
from .failures import CliError

# Key of job.yaml -> what it must be. The reference page is generated from this table.
KEYS: dict[str, str] = {
    "name": "text",
    "resources": "gpu, cpus, memory, disk, market, provider, region, instance_type, max_price, image",
    "inputs": "list of {from: URL, to: path}",
    "setup": "shell commands, run before `run`; their time is measured apart",
    "run": "shell command, or a list of words",
    "env": "names and values",
    "secrets": "list of names",
    "params": "names and values that are kept in the record and given as environment",
    "outputs": "list of patterns below the working directory",
    "checkpoint": "{path: folder, every: duration}",
    "retries": "number",
    "timeout": "duration",
    "idle_timeout": "duration",
    "max_lifetime": "duration",
    "tty": "true or false",
    "sudo": "true or false; false: on a rented machine, no root's rights and no metadata service",
    "log_limit": "size",
}
RESOURCES = ("gpu", "cpus", "memory", "disk", "market", "provider", "region", "instance_type", "max_price", "image")


def read(path: Path) -> dict[str, Any]:
    """The file's keys and values. Raises: CliError naming file and line."""
    import yaml

    from provisioner import plain_yaml

    try:
        text = path.read_text()
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CliError(f"{path}: not text in UTF-8") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value = plain_yaml.loads(text)
    except yaml.YAMLError as error:
        if isinstance(error, plain_yaml.Twice):
            _lines(node, str(path))  # knows where the first one is
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise CliError(f"{where}: malformed YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(value, dict):
        raise CliError(f"{path}:1: expected keys and values", f"known keys: {', '.join(KEYS)}")
    lines = _lines(node, str(path))
    for key in value:
        if key not in KEYS:
            raise CliError(f"{path}:{lines.get(key, 1)}: unknown key {key!r}", f"known: {', '.join(KEYS)}")
    # As written: `yes`, `010` and `1e3` are what the file says and not what YAML makes of them.
    value |= {key: _written(value[key], child) for key, child in _pairs(node) if key in ("env", "params")}
    return {"_lines": lines, "_path": str(path), **value}


def _pairs(node: Any) -> list[tuple[str, Any]]:
    return [(key.value, child) for key, child in node.value] if node is not None and node.id == "mapping" else []


def _lines(node: Any, path: str, prefix: str = "") -> dict[str, int]:
    """Key, or `key.inner`, to its line. Raises: CliError when one is given twice."""
    lines: dict[str, int] = {}
    for key, child in node.value:
        name = f"{prefix}{key.value}"
        line = key.start_mark.line + 1
        if name in lines:
            raise CliError(f"{path}:{line}: {name!r} is given twice", f"first on line {lines[name]}")
        lines[name] = line
        if child.id == "mapping" and not prefix:
            lines |= _lines(child, path, f"{name}.")
    return lines


def _written(value: Any, node: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return value | {
        key: child.value for key, child in _pairs(node) if child.id == "scalar" and value.get(key) is not None
    }


def spec(given: dict[str, Any]) -> dict[str, Any]:
    """The job's specification as the API takes it. Raises: CliError naming the key."""
    where = _Where(given)
    made: dict[str, Any] = {
        "run": _run(given.get("run"), where),
        "name": _text(given, "name", where),
        "setup": _text(given, "setup", where),
        "need": _need(given, where),
        "env": _texts(given, "env", where),
        "params": _texts(given, "params", where),
        "secrets": list(dict.fromkeys(_names(given, "secrets", where))),
        "outputs": [_output(one, where) for one in _names(given, "outputs", where)],
        "inputs": [_input(one, where) for one in _listed(given, "inputs", where)],
        "checkpoint": _checkpoint(given.get("checkpoint"), where),
        "retries": _whole(given.get("retries") or 0, "retries", where),
        "tty": _flag(given, "tty", False, where),
        "sudo": _flag(given, "sudo", True, where),
    }
    for key in ("timeout", "idle_timeout", "max_lifetime"):
        if given.get(key) is not None:
            made[f"{key}_s"] = amounts.duration(given[key], where(key, key))
    if given.get("log_limit") is not None:
        made["log_limit_bytes"] = amounts.size(given["log_limit"], where("log_limit", "log_limit"))
    return made


class _Where:
    """Says where a key was given."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._lines = given.get("_lines", {})
        self._path = given.get("_path", "")

    def __call__(self, key: str, message: str) -> str:
        return f"{self._path}:{self._lines[key]}: {message}" if key in self._lines else message


def _need(given: dict[str, Any], where: _Where) -> dict[str, Any]:
    from provisioner.domain.errors import InvalidRequest
    from provisioner.domain.gpu import parse_gpu

    asked = given.get("resources") or {}
    if not isinstance(asked, dict):
        raise CliError(where("resources", "resources must be keys and values"))
    for key in asked:
        if key not in RESOURCES:
            raise CliError(where(f"resources.{key}", f"unknown resource {key!r}"), f"known: {', '.join(RESOURCES)}")
        if isinstance(asked[key], dict) or (isinstance(asked[key], list) and key not in ("provider", "region")):
            raise CliError(where(f"resources.{key}", f"{key} must be one value"))
    need: dict[str, Any] = {}
    if asked.get("gpu"):
        try:
            gpu = parse_gpu(str(asked["gpu"]))
        except InvalidRequest as error:
            raise CliError(where("resources.gpu", error.message), error.hint) from error
        need["gpu"] = {f: getattr(gpu, f) for f in ("count", "name", "min_memory_gb", "min_compute")}
    if asked.get("cpus"):
        need["cpus"] = math.ceil(amounts.at_least(asked["cpus"], where("resources.cpus", "cpus")))
    for key, field in (("memory", "memory_gib"), ("disk", "disk_gib")):
        if asked.get(key):
            need[field] = amounts.at_least(asked[key], where(f"resources.{key}", key))
    if asked.get("market"):
        if asked["market"] not in ("spot", "on-demand", "spot-first"):
            raise CliError(
                where("resources.market", f"unknown market {asked['market']!r}"), "spot, on-demand or spot-first"
            )
        need["market"] = asked["market"]
    for key, field in (("provider", "providers"), ("region", "regions")):
        if asked.get(key):
            need[field] = [str(one) for one in (asked[key] if isinstance(asked[key], list) else [asked[key]])]
    if asked.get("max_price") is not None:
        need["max_price"] = str(amounts.at_least(asked["max_price"], where("resources.max_price", "max_price")))
    for key in ("instance_type", "image"):
        if asked.get(key):
            need[key] = str(asked[key])
    return need


def _texts(given: dict[str, Any], key: str, where: _Where) -> dict[str, str]:
    value = given.get(key) or {}
    if not isinstance(value, dict):
        raise CliError(where(key, f"{key} must be names and values"))
    for name, text in value.items():
        if isinstance(text, dict | list):
            raise CliError(where(f"{key}.{name}", f"{key}: {name} must be one value"), "put lists and tables in quotes")
    return {str(name): "" if text is None else str(text) for name, text in value.items()}


def _names(given: dict[str, Any], key: str, where: _Where) -> list[str]:
    found = _listed(given, key, where)
    for one in found:
        if not isinstance(one, str) or not one:
            raise CliError(where(key, f"{key}: {one!r} is not a name"), "a list of texts, quoted where YAML needs it")
    return found


def _run(value: Any, where: _Where) -> str | list[str]:
    if not value or (isinstance(value, str) and not value.strip()):
        raise CliError(where("run", "there is nothing to run"), "give a command after --, or `run:` in the file")
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(word, str | int | float) for word in value):
        return [str(word) for word in value]
    raise CliError(where("run", f"run: {value!r} is not a command"), "a text for the shell, or a list of words")


def _text(given: dict[str, Any], key: str, where: _Where) -> str:
    value = given.get(key)
    if isinstance(value, dict | list):
        raise CliError(where(key, f"{key} must be text"))
    return "" if value is None else str(value)


def _flag(given: dict[str, Any], key: str, default: bool, where: _Where) -> bool:
    value = given.get(key)
    if value is not None and not isinstance(value, bool):
        raise CliError(where(key, f"{key}: {value!r} is neither true nor false"))
    return default if value is None else value


def _listed(given: dict[str, Any], key: str, where: _Where) -> list[Any]:
    value = given.get(key) or []
    if not isinstance(value, list | tuple):
        raise CliError(where(key, f"{key} must be a list"))
    return list(value)


def _output(pattern: str, where: _Where) -> str:
    if pattern.startswith("/") or ".." in pattern.split("/"):
        raise CliError(where("outputs", f"output {pattern!r} is outside the workspace"), "name paths below it")
    return pattern


def _input(one: Any, where: _Where) -> dict[str, str]:
    if not isinstance(one, dict) or set(one) != {"from", "to"}:
        raise CliError(where("inputs", "an input is {from: URL, to: path}"))
    to = str(one["to"])
    if to.startswith("/") or ".." in to.split("/"):
        raise CliError(where("inputs", f"input target {to!r} is outside the workspace"), "name a path below it")
    return {"source": str(one["from"]), "to": to}


def _checkpoint(value: Any, where: _Where) -> dict[str, Any] | None:
    if not value:
        return None
    if isinstance(value, str):
        value = {"path": value}
    if not isinstance(value, dict) or "path" not in value or set(value) - {"path", "every"}:
        raise CliError(where("checkpoint", "a checkpoint is {path: folder, every: duration}"))
    path = str(value["path"])
    if path.startswith("/") or ".." in path.split("/"):
        raise CliError(where("checkpoint", f"checkpoint {path!r} is outside the workspace"), "name a folder below it")
    every = amounts.duration(value.get("every", "5m"), where("checkpoint", "every"))
    return {"path": path.rstrip("/"), "every_s": every}


def _whole(value: Any, key: str, where: _Where) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise CliError(where(key, f"{key}: {value!r} is not a number"), "write 0, 1, 2 ...")
    return value
