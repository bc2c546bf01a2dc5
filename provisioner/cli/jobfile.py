"""job.yaml and the options of `runner run`, made into one specification. Errors name the file and the line."""

from __future__ import annotations

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
    "sudo": "true or false",
    "log_limit": "size",
}
RESOURCES = ("gpu", "cpus", "memory", "disk", "market", "provider", "region", "instance_type", "max_price", "image")


def read(path: Path) -> dict[str, Any]:
    """The file's keys and values. Raises: CliError naming file and line."""
    import yaml

    try:
        text = path.read_text()
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise CliError(f"{where}: malformed YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(value, dict):
        raise CliError(f"{path}:1: expected keys and values", f"known keys: {', '.join(KEYS)}")
    lines = {key.value: key.start_mark.line + 1 for key, _ in node.value} if node is not None else {}
    for key in value:
        if key not in KEYS:
            raise CliError(f"{path}:{lines.get(key, 1)}: unknown key {key!r}", f"known: {', '.join(KEYS)}")
    return {"_lines": lines, "_path": str(path), **value}


def spec(given: dict[str, Any]) -> dict[str, Any]:
    """The job's specification as the API takes it. Raises: CliError naming the key."""
    where = _Where(given)
    if not given.get("run"):
        raise CliError(where("run", "there is nothing to run"), "give a command after --, or `run:` in the file")
    made: dict[str, Any] = {
        "run": given["run"] if isinstance(given["run"], str) else [str(word) for word in given["run"]],
        "name": str(given.get("name") or ""),
        "setup": str(given.get("setup") or ""),
        "need": _need(given, where),
        "env": _texts(given, "env", where),
        "params": _texts(given, "params", where),
        "secrets": [str(name) for name in _listed(given, "secrets", where)],
        "outputs": [_output(str(one), where) for one in _listed(given, "outputs", where)],
        "inputs": [_input(one, where) for one in _listed(given, "inputs", where)],
        "checkpoint": _checkpoint(given.get("checkpoint"), where),
        "retries": _whole(given.get("retries", 0), "retries", where),
        "tty": bool(given.get("tty", False)),
        "sudo": bool(given.get("sudo", True)),
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
            raise CliError(where("resources", f"unknown resource {key!r}"), f"known: {', '.join(RESOURCES)}")
    need: dict[str, Any] = {}
    if asked.get("gpu"):
        try:
            gpu = parse_gpu(str(asked["gpu"]))
        except InvalidRequest as error:
            raise CliError(where("resources", error.message), error.hint) from error
        need["gpu"] = {f: getattr(gpu, f) for f in ("count", "name", "min_memory_gb", "min_compute")}
    if asked.get("cpus"):
        need["cpus"] = int(amounts.at_least(asked["cpus"], where("resources", "cpus")))
    for key, field in (("memory", "memory_gib"), ("disk", "disk_gib")):
        if asked.get(key):
            need[field] = amounts.at_least(asked[key], where("resources", key))
    if asked.get("market"):
        if asked["market"] not in ("spot", "on-demand", "spot-first"):
            raise CliError(where("resources", f"unknown market {asked['market']!r}"), "spot, on-demand or spot-first")
        need["market"] = asked["market"]
    for key, field in (("provider", "providers"), ("region", "regions")):
        if asked.get(key):
            need[field] = [str(one) for one in (asked[key] if isinstance(asked[key], list) else [asked[key]])]
    if asked.get("max_price") is not None:
        need["max_price"] = str(amounts.at_least(asked["max_price"], where("resources", "max_price")))
    for key in ("instance_type", "image"):
        if asked.get(key):
            need[key] = str(asked[key])
    return need


def _texts(given: dict[str, Any], key: str, where: _Where) -> dict[str, str]:
    value = given.get(key) or {}
    if not isinstance(value, dict):
        raise CliError(where(key, f"{key} must be names and values"))
    return {str(name): str(text) for name, text in value.items()}


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
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise CliError(where(key, f"{key}: {value!r} is not a number")) from error
