"""Names of events as the sources record them: constants in the past tense, `subject.what_happened`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from provisioner.domain.job import InstancePhase, JobPhase

from .places import TOP, sources

_NAME = re.compile(
    r"(job|attempt|forge|runner|instance|machine|host|leftover|charge|collector|provider|result|checkpoint|secret|token"
    r"|gpu|ci)"
    r"\.[a-z]+(_[a-z]+)*"
)
_NOT_EVENTS = (".db", ".json", ".yaml", ".lock", ".log", "_s")
_PHASES = {"instance.": [p.value for p in InstancePhase], "job.": [JobPhase.HELD.value]}


def events() -> list[str]:
    """Every name that some module may record, sorted. Lines of our own log do not count."""
    return sorted({name for path in sources("provisioner") for name in _recorded(ast.parse(path.read_text()))})


def given_to_jobs() -> list[str]:
    """Names of the variables that the agent sets for a job: `env["RUNNER_..."] = ...`."""
    tree = ast.parse((TOP / "agent/environment.py").read_text())
    targets = (target for node in ast.walk(tree) if isinstance(node, ast.Assign) for target in node.targets)
    names = (
        one.slice.value for one in targets if isinstance(one, ast.Subscript) and isinstance(one.slice, ast.Constant)
    )
    return sorted(str(name) for name in names if str(name).startswith("RUNNER_"))


def read_by_us() -> set[str]:
    """Names of the variables that begin with RUNNER_ and stand in the controller's or the command line's code."""
    constants = (
        node.value
        for path in sources("provisioner")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    return {value for value in constants if re.fullmatch(r"RUNNER_[A-Z_]+", value)}


def _recorded(tree: ast.Module) -> Iterator[str]:
    logged = {id(arg) for call in ast.walk(tree) if _is_log(call) for arg in call.args}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in logged and _is_name(node.value):
            yield str(node.value)
        if isinstance(node, ast.JoinedStr) and len(node.values) == 2 and isinstance(node.values[0], ast.Constant):
            subject = str(node.values[0].value)
            yield from (subject + phase for phase in _PHASES.get(subject, []))


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(_NAME.fullmatch(value)) and not value.endswith(_NOT_EVENTS)


def _is_log(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and "log" in node.func.value.id.lower()
    )
