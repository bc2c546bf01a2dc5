"""Lifecycle tables of the domain as Mermaid diagrams, and the place in a document where one stands.

A diagram stands between two comments, `<!-- drawn: NAME -->` and `<!-- /drawn -->`; everything between them is ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

from provisioner.domain import lifecycle

TABLES: Mapping[str, Mapping[StrEnum, frozenset[StrEnum]]] = {
    "instance": lifecycle.INSTANCE,
    "job": lifecycle.JOB,
    "attempt": lifecycle.ATTEMPT,
}


def drawn(document: str) -> str:
    """The document with every diagram drawn anew. Raises: KeyError for a name that has no table."""
    return re.sub(
        r"<!-- drawn: (\w+) -->.*?<!-- /drawn -->",
        lambda found: f"<!-- drawn: {found[1]} -->\n{diagram(TABLES[found[1]])}\n<!-- /drawn -->",
        document,
        flags=re.S,
    )


def diagram(table: Mapping[StrEnum, frozenset[StrEnum]]) -> str:
    """In the table's own order, so that the same table always gives the same text."""
    order = list(table)
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {order[0]}"]
    for before in order:
        for after in sorted(table[before], key=order.index):
            lines.append(f"    {before} --> {after}")
        if not table[before]:
            lines.append(f"    {before} --> [*]")
    return "\n".join([*lines, "```"])
