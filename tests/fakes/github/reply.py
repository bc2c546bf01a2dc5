"""An answer of the fake GitHub, before it becomes bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode


@dataclass
class Reply:
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


def page(
    url: str, query: dict[str, str], items: list[Any], shape: Callable[[Any], Any], key: str = "", most: int = 0
) -> Reply:
    """One page of `items`, with the addresses of its neighbours. `most`: only so many can be reached, all count."""
    size, at = min(int(query.get("per_page", "30")), 100), int(query.get("page", "1"))
    reached = items[:most] if most else items
    shown = [shape(item) for item in reached[(at - 1) * size : at * size]]
    headers = {}
    if at * size < len(reached):
        more = {**query, "page": str(at + 1)}
        headers["link"] = f'<{url}?{urlencode(more)}>; rel="next"'
    return Reply(200, {"total_count": len(items), key: shown} if key else shown, headers)


def not_found() -> Reply:
    return Reply(404, {"message": "Not Found", "documentation_url": "", "status": "404"})


def unfit(message: str) -> Reply:
    return Reply(422, {"message": message, "documentation_url": "", "errors": []})
