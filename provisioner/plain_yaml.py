"""YAML as people read it: `1:30` is no number to the base of 60, `010` is not eight, and a key is there once.

Imported late: it brings PyYAML.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"


class Twice(yaml.MarkedYAMLError):
    """A key of a mapping is there twice: one of them would mean nothing."""


class _Plain(yaml.SafeLoader):
    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if (key.tag, key.value) in keys:
                    raise Twice(problem=f"{key.value[:80]!r} is there twice", problem_mark=key.start_mark)
                keys.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


_Plain.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag not in (_INT, _FLOAT)]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Plain.add_implicit_resolver(_INT, re.compile(r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F]+)$"), list("-+0123456789"))
_Plain.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"[-+]?([0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?|\.[0-9]+([eE][-+]?[0-9]+)?|\.(inf|Inf|INF))$|\.(nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


def loads(text: str) -> Any:
    """The value. Raises: YAMLError, Twice with the place of the second."""
    try:
        return yaml.load(text, Loader=_Plain)
    except (ValueError, RecursionError) as error:
        raise yaml.YAMLError("a number is too long, or there are too many levels") from error
