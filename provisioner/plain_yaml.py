"""YAML as people read it: `1:30` is no number to the base of 60, `010` is not eight, and a key is there once. And as
programs write it, by version 1.2.

Imported late: it brings PyYAML.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_INT, _FLOAT, _BOOL = (f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool"))


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


class _Data(yaml.SafeLoader):
    """As YAML 1.2 has it, which programs write: 1e-3 is a number, and nothing is a date. A few aliases make a tree that
    has no end."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="an alias", problem_mark=mark)
        return super().compose_node(parent, index)


_Data.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+.0123456789"),
)
_Data.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def loads(text: str) -> Any:
    """What people wrote. Raises: YAMLError, Twice with the place of the second."""
    return _loaded(text, _Plain)


def data(text: str) -> Any:
    """What a program wrote: numbers are floats, and aliases are refused. Raises: YAMLError."""
    return _loaded(text, _Data)


def _loaded(text: str, loader: type[yaml.SafeLoader]) -> Any:
    try:
        return yaml.load(text, Loader=loader)
    except (ValueError, RecursionError) as error:
        raise yaml.YAMLError("a number is too long, or there are too many levels") from error
