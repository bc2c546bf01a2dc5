"""The agent runs on Python 3.9: its syntax, and every library call in it, are there since then.

The table lists what is newer, by where it stands in the standard library; what is not in the table is taken to be old.
Source: the "new in version" notes of the Python 3.10 to 3.14 library reference.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from .places import TOP, sources

FLOOR = (3, 9)

# module -> names that came after 3.9
NEWER_NAMES: dict[str, set[str]] = {
    "ast": {"TryStar", "compare"},
    "asyncio": {"TaskGroup", "Runner", "timeout", "timeout_at", "Barrier", "mixins"},
    "base64": {"b32hexencode", "b32hexdecode", "z85encode", "z85decode"},
    "collections.abc": {"Buffer"},
    "contextlib": {"aclosing", "chdir", "AsyncContextDecorator"},
    "copy": {"replace"},
    "dataclasses": {"KW_ONLY"},
    "datetime": {"UTC"},
    "enum": {"StrEnum", "EnumType", "verify", "member", "nonmember", "global_enum", "property", "ReprEnum"},
    "fcntl": {"F_GETPIPE_SZ", "F_SETPIPE_SZ"},
    "functools": {"Placeholder"},
    "glob": {"translate"},
    "hashlib": {"file_digest"},
    "inspect": {"get_annotations", "getmembers_static"},
    "io": {"text_encoding", "Reader", "Writer"},
    "itertools": {"pairwise", "batched"},
    "logging": {"getLevelNamesMapping", "getHandlerByName"},
    "math": {"cbrt", "exp2", "sumprod", "fma"},
    "operator": {"call", "is_none", "is_not_none"},
    "os": {
        "EFD_CLOEXEC", "eventfd", "eventfd_read", "eventfd_write", "splice", "setns", "unshare", "listdrives",
        "login_tty", "PIDFD_NONBLOCK", "timerfd_create", "process_cpu_count", "posix_openpt", "grantpt", "ptsname",
    },
    "os.path": {"splitroot", "isjunction", "isreserved", "ALLOW_MISSING"},
    "pathlib": {"UnsupportedOperation"},
    "platform": {"freedesktop_os_release"},
    "random": {"binomialvariate"},
    "socket": {"SO_INCOMING_CPU", "SO_RTABLE", "SO_USER_COOKIE"},
    "sqlite3": {"Blob"},
    "statistics": {"correlation", "covariance", "linear_regression", "kde"},
    "string": {"templatelib"},
    "sys": {"orig_argv", "stdlib_module_names", "exception", "monitoring", "activate_stack_trampoline"},
    "tarfile": {"data_filter", "tar_filter", "fully_trusted_filter", "FilterError", "AbsolutePathError"},
    "threading": {"gettrace", "getprofile", "setprofile_all_threads", "settrace_all_threads"},
    "types": {"NoneType", "EllipsisType", "NotImplementedType", "UnionType", "get_original_bases", "CapsuleType"},
    "typing": {
        "Concatenate", "Never", "LiteralString", "NotRequired", "ParamSpec", "ParamSpecArgs", "ParamSpecKwargs",
        "Required", "Self", "TypeAlias", "TypeGuard", "TypeIs", "TypeVarTuple", "Unpack", "assert_never",
        "assert_type", "clear_overloads", "dataclass_transform", "get_overloads", "is_typeddict", "override",
        "reveal_type", "ReadOnly", "NoDefault", "TypeAliasType", "get_protocol_members", "is_protocol",
    },
    "uuid": {"uuid6", "uuid7", "uuid8"},
}  # fmt: skip
NEWER_MODULES = {"tomllib", "annotationlib", "compression", "concurrent.interpreters", "string.templatelib"}
NEWER_BUILTINS = {
    "aiter",
    "anext",
    "ExceptionGroup",
    "BaseExceptionGroup",
    "EncodingWarning",
    "PythonFinalizationError",
}
# Names so particular that a method called so can only be the newer one.
NEWER_METHODS = {"bit_count", "add_note", "hardlink_to", "copy_into", "move_into", "full_match"}
# callable -> keywords that came after 3.9
NEWER_KEYWORDS: dict[str, set[str]] = {
    "zip": {"strict"},
    "map": {"strict"},
    "dataclass": {"slots", "kw_only", "match_args", "weakref_slot"},
    "field": {"kw_only", "doc"},
    "Popen": {"process_group", "pipesize"},
    "run": {"process_group", "pipesize"},
    "rmtree": {"dir_fd", "onexc"},
    "extract": {"filter"},
    "extractall": {"filter"},
    "realpath": {"strict"},
    "mkdir": {"delete"},
    "glob": {"root_dir", "dir_fd", "include_hidden"},
    "TemporaryDirectory": {"ignore_cleanup_errors", "delete"},
    "NamedTemporaryFile": {"delete_on_close"},
    "create_connection": {"all_errors"},
    "bisect_left": {"key"},
    "bisect_right": {"key"},
    "insort": {"key"},
    "open_unix_connection": {"cleanup_socket"},
}


def newer(tree: ast.Module) -> Iterator[str]:
    """Everything in one module that 3.9 lacks, with its line."""
    modules = _modules(tree)
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        for found in _found(node, modules):
            yield f"{line}: {found}"


def _modules(tree: ast.Module) -> dict[str, str]:
    """Names in this file that stand for modules of the library."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {(alias.asname or alias.name): alias.name for alias in node.names}
    return found


def _found(node: ast.AST, modules: dict[str, str]) -> Iterator[str]:
    match node:
        case ast.Match():
            yield "match statement"
        case ast.TryStar():
            yield "except*"
        case ast.Import(names=names):
            yield from (f"import {alias.name}" for alias in names if alias.name in NEWER_MODULES)
        case ast.ImportFrom(module=str(module), names=names, level=0):
            if module in NEWER_MODULES:
                yield f"from {module}"
            yield from (f"{module}.{a.name}" for a in names if a.name in NEWER_NAMES.get(module, ()))
        case ast.Attribute(attr=attr):
            path = _path(node)
            head, _, tail = path.rpartition(".")
            if tail in NEWER_NAMES.get(modules.get(head.partition(".")[0], "") and _library(head, modules), ()):
                yield path
            if attr in NEWER_METHODS:
                yield f".{attr}()"
        case ast.Name(id=name) if name in NEWER_BUILTINS:
            yield name
        case ast.Call(func=func, keywords=keywords):
            name = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
            yield from (f"{name}({k.arg}=)" for k in keywords if k.arg in NEWER_KEYWORDS.get(name, ()))


def _library(head: str, modules: dict[str, str]) -> str:
    first, _, rest = head.partition(".")
    return modules[first] + (f".{rest}" if rest else "")


def _path(node: ast.expr) -> str:
    match node:
        case ast.Attribute(value=value, attr=attr):
            return f"{_path(value)}.{attr}"
        case ast.Name(id=name):
            return name
    return "?"


def evaluated_unions(tree: ast.Module) -> list[int]:
    """Lines where `X | None` would be evaluated although annotations are not: aliases, casts, bases."""
    ignored = {
        inner
        for node in ast.walk(tree)
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if part is not None
        for inner in ast.walk(part)
    }
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.BitOr)
        and node not in ignored
        and any(isinstance(side, ast.Constant) and side.value is None for side in (node.left, node.right))
    ]


@pytest.mark.parametrize("path", sources("agent"), ids=lambda path: path.name)
def test_nothing_newer_than_the_floor(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text, filename=str(path), feature_version=FLOOR)
    assert list(newer(tree)) == []
    assert evaluated_unions(tree) == []
    body = [node for node in tree.body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
    lazy = not body or ast.unparse(body[0]) == "from __future__ import annotations"
    assert lazy, f"{path.relative_to(TOP)}: annotations would be evaluated"


@pytest.mark.parametrize(
    "text",
    [
        "match x:\n case 1: pass",
        "import hashlib\nhashlib.file_digest(f, 'sha256')",
        "from datetime import UTC",
        "import datetime as d\nd.UTC",
        "from itertools import pairwise, chain",
        "import os\nos.path.splitroot('a')",
        "zip(a, b, strict=True)",
        "@dataclass(frozen=True, slots=True)\nclass A: pass",
        "(5).bit_count()",
        "import tomllib",
        "shutil.rmtree(p, onexc=f)",
        "try: pass\nexcept* OSError: pass",
        "raise ExceptionGroup('', [])",
    ],
)
def test_the_checker_sees_what_is_newer(text: str) -> None:
    assert list(newer(ast.parse(text)))


@pytest.mark.parametrize(
    "text", ["import os\nos.path.join('a')", "'ab'.removeprefix('a')", "import time\ntime.monotonic()"]
)
def test_the_checker_lets_pass_what_is_old(text: str) -> None:
    assert list(newer(ast.parse(text))) == []


def test_the_checker_sees_unions_that_are_evaluated() -> None:
    assert evaluated_unions(ast.parse("A = int | None\ndef f(x: int | None) -> str | None: ...")) == [1]
