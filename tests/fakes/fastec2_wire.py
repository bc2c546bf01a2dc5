"""What EC2 and SSM say on the wire, by botocore's own models of them: requests taken apart, answers put together.

The models decide: a parameter, a value or a part of an answer that they do not have is refused, so that a fake cannot
invent any. A `Ready` is a part of an answer that was put together before, for lists that are long and change little.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

import botocore.session
from botocore.model import ListShape, OperationModel, ServiceModel, Shape, StructureShape

_XMLNS = "http://ec2.amazonaws.com/doc/2016-11-15/"


class Refused(Exception):
    """What the caller is told."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


class NotInModel(Exception):
    """A bug of the fake: it said something that the service cannot say."""


@dataclass(frozen=True)
class Ready:
    """XML of one value of the shape of that name."""

    shape: str
    text: str


@functools.cache
def model(service: str) -> ServiceModel:
    return botocore.session.get_session().get_service_model(service)


def operation(service: str, action: str) -> OperationModel:
    """Raises: Refused for an action that the service does not have."""
    if action not in model(service).operation_names:
        raise Refused("InvalidAction", f"The action {action} is not valid for this web service.")
    return model(service).operation_model(action)


# What is asked


def parsed(action: str, words: Mapping[str, str]) -> dict[str, Any]:
    """The parameters of a call to EC2, by their names in the model. Raises: Refused."""
    tree: dict[str, Any] = {}
    for path, value in words.items():
        if path in ("Action", "Version"):
            continue
        node, *steps = (tree, *path.split("."))
        for step in steps[:-1]:
            node = node.setdefault(step, {})
        node[steps[-1]] = value
    shape = operation("ec2", action).input_shape
    taken: dict[str, Any] = _take(shape, tree, "") if shape is not None else {}
    return taken


def _take(shape: Shape, value: Any, path: str) -> Any:
    if isinstance(shape, StructureShape):
        return _take_structure(shape, value, path)
    if isinstance(shape, ListShape):
        if not isinstance(value, dict):
            raise Refused("InvalidParameterValue", f"The parameter {path} is a list")
        rows = sorted((int(number), one) for number, one in value.items() if number.isdigit())
        if [number for number, _ in rows] != list(range(1, len(value) + 1)):
            raise Refused("InvalidParameterValue", f"The list {path} is not numbered from 1 on")
        return [_take(shape.member, one, f"{path}.{number}") for number, one in rows]
    return _scalar(shape, value, path)


def _take_structure(shape: StructureShape, value: Any, path: str) -> dict[str, Any]:
    names = {_asked_name(member, name): name for name, member in shape.members.items()}
    if not isinstance(value, dict):
        raise Refused("InvalidParameterValue", f"The parameter {path} has parts")
    if unknown := sorted(value.keys() - names.keys()):
        raise Refused("UnknownParameter", f"The parameter {f'{path}.{unknown[0]}'.lstrip('.')} is not recognized")
    found = {
        names[key]: _take(shape.members[names[key]], one, f"{path}.{key}".lstrip(".")) for key, one in value.items()
    }
    if missing := [name for name in shape.required_members if name not in found]:
        raise Refused("MissingParameter", f"The request must contain the parameter {missing[0]}")
    return found


def _asked_name(member: Shape, name: str) -> str:
    """As botocore's EC2Serializer has it."""
    if "queryName" in member.serialization:
        return str(member.serialization["queryName"])
    written = str(member.serialization.get("name", name))
    return written[0].upper() + written[1:]


def _scalar(shape: Shape, value: Any, path: str) -> Any:
    """Raises: Refused for what is none of the type, or none of the values that the model lists."""
    try:
        match shape.type_name:
            case "integer" | "long":
                return int(value)
            case "float" | "double":
                return float(value)
            case "boolean":
                return {"true": True, "false": False}[value]
            case "timestamp":
                return datetime.fromisoformat(value)
            case "blob":
                return base64.b64decode(value, validate=True)
    except (ValueError, KeyError, TypeError):
        raise Refused("InvalidParameterValue", f"Value ({value}) for parameter {path} is invalid.") from None
    if not isinstance(value, str) or (_values(shape) and value not in _values(shape)):
        raise Refused("InvalidParameterValue", f"Value ({value}) for parameter {path} is invalid.")
    return value


def _values(shape: Shape) -> frozenset[str]:
    return frozenset(shape.metadata.get("enum", ()))


def parsed_json(service: str, action: str, body: bytes) -> dict[str, Any]:
    """The parameters of a call to a service that speaks JSON; flat ones only. Raises: Refused."""
    shape = operation(service, action).input_shape
    given: dict[str, Any] = json.loads(body)
    if not isinstance(shape, StructureShape) or given.keys() - shape.members.keys():
        raise Refused("ValidationException", f"{sorted(given)} are not all of {action}")
    if missing := [name for name in shape.required_members if name not in given]:
        raise Refused("ValidationException", f"{missing[0]} is missing")
    return given


# What is answered


def answered(action: str, result: Mapping[str, Any]) -> bytes:
    """Raises: NotInModel."""
    shape = operation("ec2", action).output_shape
    inside = _writer(shape)(result) if shape is not None else ""
    return f'<{action}Response xmlns="{_XMLNS}"><requestId>r-1</requestId>{inside}</{action}Response>'.encode()


def ready(shape: str, value: Mapping[str, Any]) -> Ready:
    """Raises: NotInModel."""
    return Ready(shape, _writer(model("ec2").shape_for(shape))(value))


def answered_json(service: str, action: str, result: Mapping[str, Any]) -> bytes:
    """Raises: NotInModel."""

    def check(shape: Shape | None, value: Any) -> None:
        if isinstance(shape, StructureShape):
            for name, one in value.items():
                if name not in shape.members:
                    raise NotInModel(f"{shape.name} has no {name}")
                check(shape.members[name], one)
        elif shape is not None and shape.type_name == "string":
            _written_string(shape, value)

    check(operation(service, action).output_shape, result)
    return json.dumps(result).encode()


def error(code: str, message: str) -> bytes:
    inside = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    return f"<Response><Errors>{inside}</Errors><RequestID>r-1</RequestID></Response>".encode()


def error_json(code: str, message: str) -> bytes:
    return json.dumps({"__type": code, "Message": message, "message": message}).encode()


_Writer = Callable[[Any], str]
_writers: dict[str, _Writer] = {}


def _writer(shape: Shape) -> _Writer:
    """Made once for each shape; some contain themselves."""
    if shape.name not in _writers:
        _writers[shape.name] = lambda value: made(value)
        made = _made(shape)
        _writers[shape.name] = made
    return _writers[shape.name]


def _made(shape: Shape) -> _Writer:
    if isinstance(shape, StructureShape):
        return _structure_writer(shape)
    if isinstance(shape, ListShape):
        name, write = str(shape.member.serialization.get("name", "member")), _writer(shape.member)
        return lambda rows: "".join(f"<{name}>{write(row)}</{name}>" for row in rows)
    return functools.partial(_written, shape)


def _structure_writer(shape: StructureShape) -> _Writer:
    members = {
        name: (str(member.serialization.get("name", name)), _writer(member)) for name, member in shape.members.items()
    }

    def write(value: Mapping[str, Any] | Ready) -> str:
        if isinstance(value, Ready):
            if value.shape != shape.name:
                raise NotInModel(f"{value.shape} where {shape.name} belongs")
            return value.text
        if unknown := value.keys() - members.keys():
            raise NotInModel(f"{shape.name} has no {sorted(unknown)}")
        parts = ((members[name], one) for name, one in value.items())
        return "".join(f"<{tag}>{write_one(one)}</{tag}>" for (tag, write_one), one in parts)

    return write


_TYPES = {
    "integer": int,
    "long": int,
    "float": float,
    "double": float,
    "boolean": bool,
    "timestamp": datetime,
    "string": str,
    "blob": bytes,
}


def _written(shape: Shape, value: Any) -> str:
    if type(value) is not _TYPES.get(shape.type_name):
        raise NotInModel(f"{value!r} is no {shape.type_name} ({shape.name})")
    match value:
        case bool():
            return str(value).lower()
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        case bytes():
            return base64.b64encode(value).decode()
        case str():
            return escape(_written_string(shape, value))
    return str(value)


def _written_string(shape: Shape, value: str) -> str:
    if _values(shape) and value not in _values(shape):
        raise NotInModel(f"{value!r} is no {shape.name}")
    return value
