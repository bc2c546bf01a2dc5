"""GitHub's published OpenAPI description, down to what our client and its fake say: facts only, no prose.

`python -m tests.fakes.github.distil PATH_TO_api.github.com.json` writes `openapi.json.gz` beside this file. The source
is in the npm package @octokit/openapi, `generated/api.github.com.json`; what it was is recorded in `x-distilled-from`.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

KEPT_AT = Path(__file__).with_name("openapi.json.gz")

_SITES = ("/repos/{owner}/{repo}", "/orgs/{org}")
PATHS: dict[str, tuple[str, ...]] = {
    "/app/installations/{installation_id}/access_tokens": ("post",),
    "/app/hook/deliveries": ("get",),
    "/app/hook/deliveries/{delivery_id}/attempts": ("post",),
    "/orgs/{org}/actions/runner-groups": ("get",),
    "/orgs/{org}/repos": ("get",),
    "/repos/{owner}/{repo}/actions/jobs/{job_id}": ("get",),
    "/repos/{owner}/{repo}/actions/jobs/{job_id}/rerun": ("post",),
    "/repos/{owner}/{repo}/actions/runs": ("get",),
    "/repos/{owner}/{repo}/actions/runs/{run_id}": ("get",),
    "/repos/{owner}/{repo}/actions/runs/{run_id}/jobs": ("get",),
    "/repos/{owner}/{repo}/issues/{issue_number}/comments": ("get", "post"),
    "/repos/{owner}/{repo}/issues/comments/{comment_id}": ("patch", "delete"),
    "/repos/{owner}/{repo}/commits/{commit_sha}/comments": ("get", "post"),
    "/repos/{owner}/{repo}/comments/{comment_id}": ("patch", "delete"),
    "/repos/{owner}/{repo}/check-runs": ("post",),
    "/repos/{owner}/{repo}/statuses/{sha}": ("post",),
    "/user": ("get",),
} | {
    site + path: methods
    for site in _SITES
    for path, methods in {
        "/installation": ("get",),
        "/hooks": ("get",),
        "/hooks/{hook_id}/deliveries": ("get",),
        "/hooks/{hook_id}/deliveries/{delivery_id}/attempts": ("post",),
        "/actions/runners": ("get",),
        "/actions/runners/downloads": ("get",),
        "/actions/runners/generate-jitconfig": ("post",),
        "/actions/runners/registration-token": ("post",),
        "/actions/runners/{runner_id}": ("get", "delete"),
    }.items()
}
WEBHOOKS = tuple(f"webhook-workflow-job-{action}" for action in ("queued", "in-progress", "completed", "waiting"))
WEBHOOKS += ("webhook-workflow-run-completed",)
_PROSE = {"description", "summary", "example", "examples", "externalDocs", "title", "tags", "callbacks"}


def distil(source: dict[str, Any], version: str, on: str) -> dict[str, Any]:
    """`version` and `on` (its date) say where it came from."""
    paths = {
        path: {"parameters": source["paths"][path].get("parameters", [])}
        | {method: source["paths"][path][method] for method in methods}
        for path, methods in sorted(PATHS.items())
    }
    schemas = source["components"]["schemas"]
    wanted = {"schemas": {name: schemas[name] for name in WEBHOOKS if name in schemas}}
    bare = _bare({"paths": paths, "components": wanted})
    _add_what_is_referred_to(bare, source)
    told = {"package": "@octokit/openapi", "version": version, "on": on, "licence": "MIT"}
    info = {"title": "GitHub REST API, distilled", "version": version, "x-distilled-from": told}
    return {"openapi": source["openapi"], "info": info, "servers": [{"url": "/api/v3"}], **bare}


def _bare(node: Any, names: bool = False) -> Any:
    """Without prose. `names`: the keys are names that somebody gave, not words of OpenAPI."""
    if isinstance(node, list):
        return [_bare(one) for one in node]
    if not isinstance(node, dict):
        return node
    if not names and node.get("nullable") and "enum" in node and None not in node["enum"]:
        node = {**node, "enum": [*node["enum"], None]}  # GitHub means both: what may be null, and these values
    return {
        key: _bare(value, names=not names and key in ("properties", "schemas", "responses", "parameters", "paths"))
        for key, value in node.items()
        if names or (key not in _PROSE and not key.startswith("x-"))
    }


def _add_what_is_referred_to(bare: dict[str, Any], source: dict[str, Any]) -> None:
    missing = set(_references(bare))
    while missing:
        for reference in missing:
            _, _, kind, name = reference.split("/")
            found = _bare(source["components"][kind][name])
            bare["components"].setdefault(kind, {})[name] = found
        have = {f"#/components/{kind}/{name}" for kind, named in bare["components"].items() for name in named}
        missing = set(_references(bare)) - have
    bare["components"] = {kind: dict(sorted(named.items())) for kind, named in sorted(bare["components"].items())}


def _references(node: Any) -> Iterable[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def pack(distilled: dict[str, Any]) -> bytes:
    """The same bytes for the same facts."""
    return gzip.compress(json.dumps(distilled, sort_keys=True, separators=(",", ":")).encode(), mtime=0)


def load() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(gzip.decompress(KEPT_AT.read_bytes()))
    return loaded


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text())
    KEPT_AT.write_bytes(pack(distil(given, given["info"]["version"], datetime.now(UTC).date().isoformat())))
    print(f"{KEPT_AT.name}: {KEPT_AT.stat().st_size} bytes")
