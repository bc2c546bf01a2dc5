"""State as GitHub's answers show it. What our fake knows is filled in here; what the published description demands
beyond that is completed from its schema, so that every answer has the published shape."""

from __future__ import annotations

from functools import cache
from typing import Any

from .distil import load
from .state import Job, Record, Run

_BY_FORMAT = {
    "date-time": "2026-11-21T09:00:00Z",
    "uri": "https://forge.invalid/",
    "uuid": "00000000-0000-0000-0000-000000000000",
}
_blank: dict[int, dict[str, Any]] = {}  # by the identity of schemas, which `description` keeps for good
_BY_TYPE: dict[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False}


@cache
def description() -> dict[str, Any]:
    return load()


def named(name: str) -> dict[str, Any]:
    found: dict[str, Any] = description()["components"]["schemas"][name]
    return found


def complete(schema: dict[str, Any], facts: Any = None) -> Any:
    """`facts`, and whatever else `schema` requires."""
    schema = resolved(schema)
    for choice in ("oneOf", "anyOf"):
        if choice in schema:
            return complete(_fitting(schema[choice], facts), facts)
    if facts is None and schema.get("nullable"):
        return None
    for part in schema.get("allOf", ()):
        facts = complete(part, facts)
    if schema.get("type") == "object" or "properties" in schema:
        return _object(schema, facts or {})
    if schema.get("type") == "array":
        return [complete(schema["items"], one) for one in facts or ()]
    if facts is not None:
        return facts
    if schema.get("enum"):
        return schema["enum"][0]
    return _BY_FORMAT.get(schema.get("format", ""), _BY_TYPE.get(schema.get("type", "string"), ""))


def _object(schema: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """What is demanded is worked out once for each schema: a burst of jobs asks for the same a thousand times."""
    properties = schema.get("properties", {})
    if id(schema) not in _blank:
        _blank[id(schema)] = {name: complete(properties.get(name, {})) for name in schema.get("required", ())}
    return _blank[id(schema)] | {name: complete(properties.get(name, {}), value) for name, value in facts.items()}


def _fitting(choices: list[dict[str, Any]], facts: Any) -> dict[str, Any]:
    kinds = {dict: "object", list: "array", str: "string", int: "integer"}
    kind = kinds.get(type(facts), "")
    return next((one for one in map(resolved, choices) if one.get("type") == kind), choices[0])


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        _, _, kind, name = schema["$ref"].split("/")
        schema = description()["components"][kind][name]
    return schema


def when(moment: Any) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def runner(record: Record, online: bool) -> Any:
    labels = [{"id": at, "name": name, "type": "custom"} for at, name in enumerate(record.labels, 1)]
    labels = [] if record.set_id else labels  # Source: actions-runner-controller issue 4425, 2026
    facts = {"id": record.id, "name": record.name, "os": "linux", "status": "online" if online else "offline"}
    more = {"busy": bool(record.job), "labels": labels, "ephemeral": True, "runner_group_id": record.group_id}
    return complete(named("runner"), facts | more)


def job(row: Job, run: Run, web: str, schema: str = "job") -> Any:
    facts = {
        "id": row.id,
        "run_id": run.id,
        "run_attempt": row.attempt,
        "name": row.name,
        "labels": row.labels,
        "status": row.status,
        "conclusion": row.conclusion,
        "created_at": when(row.created_at),
        "started_at": when(row.started_at),
        "completed_at": when(row.completed_at),
        "head_branch": run.branch,
        "head_sha": f"{run.id:040x}",
        "html_url": f"{web}/{run.repository}/actions/runs/{run.id}/job/{row.id}",
        "runner_id": row.runner.id if row.runner else None,
        "runner_name": row.runner.name if row.runner else None,
        "runner_group_id": row.runner.group_id if row.runner else None,
        "runner_group_name": "Default" if row.runner else None,
    }
    return complete(named(schema), facts)


def run(row: Run, web: str) -> Any:
    facts = {
        "id": row.id,
        "run_attempt": row.attempt,
        "run_number": row.id,
        "name": "train",
        "event": row.event,
        "status": row.status,
        "conclusion": row.conclusion,
        "head_branch": row.branch,
        "head_sha": f"{row.id:040x}",
        "html_url": f"{web}/{row.repository}/actions/runs/{row.id}",
        "created_at": when(row.created_at),
        "updated_at": when(row.created_at),
        "pull_requests": [],
        "repository": repository(row.repository, 1, web),
        "head_repository": repository(row.head, 2, web) if row.head else None,
    }
    return complete(named("workflow-run"), facts)


def repository(full_name: str, number: int, web: str, schema: str = "minimal-repository") -> Any:
    owner, _, name = full_name.partition("/")
    facts = {"id": number, "name": name, "full_name": full_name, "html_url": f"{web}/{full_name}", "private": True}
    return complete(named(schema), facts | {"owner": {"login": owner}})
