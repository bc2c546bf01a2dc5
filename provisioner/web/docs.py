"""The API's description: FastAPI's own, with the shapes of answers added, and a page that needs nothing but itself.

Answers are built by hand from the domain's rows, so their schemas are added here, when somebody asks, and not at the
start of every controller.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from provisioner.domain.job import Instance, Job, JobSpec
from provisioner.domain.store import Event, TokenRow

_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {name: {"type": "string"} for name in ("kind", "message", "hint")},
            "required": ["kind", "message", "hint"],
        }
    },
    "required": ["error"],
}
# Method and path -> the kind of row in the answer, and whether it is a list of them.
_ANSWERS: Mapping[tuple[str, str], tuple[type[Any], bool]] = {
    ("post", "/jobs"): (Job, False),
    ("get", "/jobs"): (Job, True),
    ("get", "/jobs/{id}"): (Job, False),
    ("post", "/jobs/{id}/cancel"): (Job, False),
    ("post", "/jobs/{id}/rerun"): (Job, False),
    ("get", "/instances"): (Instance, True),
    ("get", "/instances/{id}"): (Instance, False),
    ("post", "/instances/{id}/stop"): (Instance, False),
    ("get", "/events"): (Event, True),
    ("get", "/tokens"): (TokenRow, True),
}
_METHODS = ("get", "put", "post", "delete", "head")


def schema(site: FastAPI) -> dict[str, Any]:
    """OpenAPI of the people's routes; made once for each site."""
    if site.openapi_schema is None:
        built = get_openapi(title=site.title, version=site.version, routes=site.routes)
        _add_shapes(built)
        site.openapi_schema = built
    return site.openapi_schema


def _add_shapes(built: dict[str, Any]) -> None:
    from pydantic import TypeAdapter

    components = built.setdefault("components", {})
    shapes = components.setdefault("schemas", {})
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for kind in (Job, Instance, Event, TokenRow, JobSpec):
        described = TypeAdapter(kind).json_schema(
            ref_template="#/components/schemas/{model}", mode="validation" if kind is JobSpec else "serialization"
        )
        shapes.update(described.pop("$defs", {}))
        shapes[kind.__name__] = described
    shapes["Error"] = _ERROR
    if "NewJob" in shapes:
        shapes["NewJob"]["properties"]["spec"] = {"$ref": "#/components/schemas/JobSpec"}
    for path, operations in built["paths"].items():
        for method, operation in operations.items():
            if method in _METHODS:
                _add_answers(operation, _ANSWERS.get((method, path.removeprefix("/api/v1"))), path)


def _add_answers(operation: dict[str, Any], row: tuple[type[Any], bool] | None, path: str) -> None:
    answers = operation["responses"]
    answers.pop("422", None)
    answers["default"] = {"description": "A refusal", "content": {"application/json": {"schema": _ref("Error")}}}
    if path != "/healthz":
        operation["security"] = [{"token": []}]
    if row is not None:
        one = _ref(row[0].__name__)
        success = next(iter(answers.values()))
        success["content"] = {"application/json": {"schema": {"type": "array", "items": one} if row[1] else one}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem;border-bottom:1px solid #ccc}
details{margin:.4rem 0;border:1px solid #ddd;border-radius:4px;padding:.35rem .7rem}
summary{cursor:pointer}code{font:13px/1.4 ui-monospace,monospace}b.m{display:inline-block;min-width:4.2rem}
table{border-collapse:collapse;margin:.5rem 0}td,th{border:1px solid #ddd;padding:.2rem .6rem;text-align:left}
p{margin:.4rem 0}
@media (prefers-color-scheme:dark){body{color:#ddd;background:#181818}details,td,th{border-color:#444}}
"""


def page(described: Mapping[str, Any]) -> str:
    """One HTML page: routes by subject, then shapes. No script, no font, no other address."""
    subjects: dict[str, list[str]] = {}
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            if method in _METHODS:
                subject = (operation.get("tags") or ["other"])[0]
                subjects.setdefault(subject, []).append(_operation(method, path, operation))
    parts = [f"<h2>{html.escape(subject)}</h2>{''.join(shown)}" for subject, shown in subjects.items()]
    shapes = "".join(_shape(name, shape) for name, shape in sorted(described["components"]["schemas"].items()))
    title = f"{html.escape(described['info']['title'])} {html.escape(described['info']['version'])}"
    intro = (
        "<p>Over TCP every route but <code>/healthz</code> needs <code>Authorization: Bearer rt_...</code>. "
        'The same as data: <a href="/openapi.json">openapi.json</a>.</p>'
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body><h1>{title}</h1>{intro}{''.join(parts)}<h2>shapes</h2>{shapes}</body></html>"
    )


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parameters = [
        (one["name"], one["in"], _kind(one.get("schema", {})), one.get("required", False))
        for one in operation.get("parameters", ())
    ]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    success = next(iter(operation["responses"].items()))
    answer = success[1].get("content", {}).get("application/json", {}).get("schema", {})
    text = html.escape(operation.get("description") or operation.get("summary", ""))
    return (
        f'<details><summary><b class="m">{method.upper()}</b> <code>{html.escape(path)}</code></summary>'
        f"<p>{text}</p>{_table(('parameter', 'in', 'kind', 'required'), parameters)}"
        + (f"<p>Body: {_kind(body)}</p>" if body else "")
        + f"<p>Answers {success[0]}{': ' + _kind(answer) if answer else ''}</p></details>"
    )


def _shape(name: str, shape: Mapping[str, Any]) -> str:
    needed = set(shape.get("required", ()))
    rows = [(field, _kind(kind), field in needed) for field, kind in shape.get("properties", {}).items()]
    values = ", ".join(html.escape(str(value)) for value in shape.get("enum", ()))
    text = html.escape(shape.get("description", ""))
    return (
        f'<details id="{html.escape(name)}"><summary><code>{html.escape(name)}</code></summary><p>{text}</p>'
        f"<p>{values}</p>{_table(('field', 'kind', 'required'), rows)}</details>"
    )


def _table(heads: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """Cells of `_kind` are HTML already; names come from our own code."""
    if not rows:
        return ""
    head = "".join(f"<th>{one}</th>" for one in heads)
    lines = "".join(
        "<tr>"
        + "".join(f"<td>{('yes' if cell else '') if isinstance(cell, bool) else cell}</td>" for cell in row)
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{lines}</table>"


def _kind(shape: Mapping[str, Any]) -> str:
    """A schema in a few words, as HTML."""
    if "$ref" in shape:
        name = html.escape(shape["$ref"].rsplit("/", 1)[-1])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in shape:
        return " or ".join(_kind(one) for one in shape["anyOf"])
    if shape.get("type") == "array":
        return f"list of {_kind(shape.get('items', {}))}"
    if "enum" in shape:
        return " or ".join(html.escape(repr(value)) for value in shape["enum"])
    return html.escape(str(shape.get("format") or shape.get("type") or "anything"))
