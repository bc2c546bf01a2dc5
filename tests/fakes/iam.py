"""IAM, as far as one identity's policy decides: what a call asks for, and whether some statement allows all of it.

A call asks for one or more (action, resource, context), built from its words and from what the account has; each must
be allowed by one statement. What a policy says that is not understood here is an error, so that nothing is granted or
withheld by accident. Sources: IAM user guide, "Policy evaluation logic" and "IAM JSON policy elements: Condition
operators"; Service authorization reference, "Actions, resources, and condition keys for Amazon EC2"; EC2 user guide,
"Grant permission to tag Amazon EC2 resources during creation".
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

ACCOUNT = "123456789012"
SHIPPED = Path(__file__).resolve().parents[2] / "docs/examples/aws-policy.json"
_USER = f"arn:aws:iam::{ACCOUNT}:user/controller"
_ELEMENTS = {"Sid", "Effect", "Action", "Resource", "Condition"}
Words = Mapping[str, str]
Tags = Mapping[str, str]


class Known(Protocol):
    """What the account has. Both answer nothing for what it does not have."""

    def tags_of(self, region: str, resource: str) -> Tags:
        """Of an instance or a security group, by id. A terminated instance has lost them. Source: EC2 user guide,
        "Terminate Amazon EC2 instances"."""
        ...

    def roles_of(self, profile: str) -> Sequence[str]:
        """Names of the roles in an instance profile."""
        ...


@dataclass(frozen=True)
class Ask:
    action: str
    resource: str
    context: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Policy:
    """`statements` as in the document. Raises: ValueError for what cannot be judged here."""

    statements: tuple[Mapping[str, Any], ...]

    def __post_init__(self) -> None:
        for one in self.statements:
            if one["Effect"] != "Allow" or not set(one) <= _ELEMENTS:
                raise ValueError(f"not understood: {one}")
            if unknown := set(one.get("Condition", {})) - set(_OPERATORS):
                raise ValueError(f"not understood: {unknown}")

    @staticmethod
    def shipped() -> Policy:
        return Policy(tuple(json.loads(SHIPPED.read_text())["Statement"]))

    def without(self, sid: str) -> Policy:
        return Policy(tuple(one for one in self.statements if one["Sid"] != sid))

    def allows(self, ask: Ask) -> bool:
        return any(_applies(one, ask) for one in self.statements)

    def refused(self, service: str, region: str, action: str, words: Words, known: Known) -> Ask | None:
        """What of this call is not allowed, the first of it."""
        return next((one for one in asks(service, region, action, words, known) if not self.allows(one)), None)


def refusal(ask: Ask) -> tuple[str, str]:
    """Code and message, as EC2 and the other services put them."""
    service, _, action = ask.action.partition(":")
    why = f"because no identity-based policy allows the {ask.action} action"
    said = f"User: {_USER} is not authorized to perform: {ask.action} on resource: {ask.resource} {why}"
    if service == "ssm":
        return "AccessDeniedException", said
    decoded = json.dumps({"allowed": False, "explicitDeny": False, "action": action, "resource": ask.resource})
    encoded = base64.urlsafe_b64encode(decoded.encode() * 4).decode().rstrip("=")
    message = f"You are not authorized to perform this operation. {said}. Encoded authorization failure message: "
    return "UnauthorizedOperation", message + encoded


def asks(service: str, region: str, action: str, words: Words, known: Known) -> Iterator[Ask]:
    """All that must be allowed for the call to be made."""
    if action in _ASKS:
        yield from _ASKS[action](f"arn:aws:ec2:{region}:{ACCOUNT}:", words, region, known)
    elif service == "ssm":
        name = words.get("Name", "")
        owner = "" if name.startswith("/aws/service/") else ACCOUNT
        yield Ask(f"ssm:{action}", f"arn:aws:ssm:{region}:{owner}:parameter/{name.removeprefix('/')}", {})
    else:
        yield Ask(f"{service}:{action}", "*", {})


def _run(arn: str, words: Words, region: str, known: Known) -> Iterator[Ask]:
    action = "ec2:RunInstances"
    yield Ask(action, f"arn:aws:ec2:{region}::image/{words.get('ImageId', '')}", {})
    for path, value in words.items():
        if re.fullmatch(r"(NetworkInterface\.\d+\.)?SubnetId", path):
            yield Ask(action, f"{arn}subnet/{value}", {})
        if re.fullmatch(r"(NetworkInterface\.\d+\.)?SecurityGroupId\.\d+", path):
            yield Ask(action, f"{arn}security-group/{value}", _has(known.tags_of(region, value)))
        if path == "KeyName":
            yield Ask(action, f"{arn}key-pair/{value}", {})
    spot = words.get("InstanceMarketOptions.MarketType") == "spot"
    tagged = dict(_tagged(words))
    for kind in ("instance", "network-interface", "volume", *(["spot-instances-request"] if spot else [])):
        yield Ask(action, f"{arn}{kind}/*", _asked(tagged.get(kind, {})))
    for role in known.roles_of(words.get("IamInstanceProfile.Name", "")):
        yield Ask("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/{role}", {"iam:passedtoservice": ["ec2.amazonaws.com"]})
    yield from _tagging(arn, words, "RunInstances")


def _make_group(arn: str, words: Words, region: str, known: Known) -> Iterator[Ask]:
    action, tagged = "ec2:CreateSecurityGroup", dict(_tagged(words))
    yield Ask(action, f"{arn}vpc/{words.get('VpcId', '')}", {})
    yield Ask(action, f"{arn}security-group/*", _asked(tagged.get("security-group", {})))
    yield from _tagging(arn, words, "CreateSecurityGroup")


def _terminate(arn: str, words: Words, region: str, known: Known) -> Iterator[Ask]:
    for path, value in words.items():
        if path.startswith("InstanceId."):
            yield Ask("ec2:TerminateInstances", f"{arn}instance/{value}", _has(known.tags_of(region, value)))


def _retag(arn: str, words: Words, region: str, known: Known) -> Iterator[Ask]:
    tags = _pairs(words, "Tag")
    for path, value in words.items():
        if path.startswith("ResourceId."):
            kind = {"i": "instance", "sg": "security-group"}.get(value.partition("-")[0], "volume")
            yield Ask("ec2:CreateTags", f"{arn}{kind}/{value}", {**_has(known.tags_of(region, value)), **_asked(tags)})


def _nothing(arn: str, words: Words, region: str, known: Known) -> Iterator[Ask]:
    """No right is needed. Source: STS API reference, GetCallerIdentity."""
    yield from ()


def _get_role(arn: str, words: Words, region: str, known: Known) -> Iterator[Ask]:
    name = words.get("RoleName", "")
    path = "aws-service-role/spot.amazonaws.com/" if name == "AWSServiceRoleForEC2Spot" else ""
    yield Ask("iam:GetRole", f"arn:aws:iam::{ACCOUNT}:role/{path}{name}", {})


def _open(action: str) -> Callable[[str, Words, str, Known], Iterator[Ask]]:
    def ask(arn: str, words: Words, region: str, known: Known) -> Iterator[Ask]:
        group = words.get("GroupId", "")
        yield Ask(f"ec2:{action}", f"{arn}security-group/{group}", _has(known.tags_of(region, group)))

    return ask


def _each(action: str, path: str, kind: str) -> Callable[[str, Words, str, Known], Iterator[Ask]]:
    """Every thing that the call names, by its tags."""

    def ask(arn: str, words: Words, region: str, known: Known) -> Iterator[Ask]:
        for name, value in words.items():
            if name.partition(".")[0] == path:
                yield Ask(f"ec2:{action}", f"{arn}{kind}/{value}", _has(known.tags_of(region, value)))

    return ask


def _schedule(action: str) -> Callable[[str, Words, str, Known], Iterator[Ask]]:
    """Source: service authorization reference, Amazon EventBridge Scheduler."""

    def ask(arn: str, words: Words, region: str, known: Known) -> Iterator[Ask]:
        name = words.get("Name", "")
        yield Ask(f"scheduler:{action}", f"arn:aws:scheduler:{region}:{ACCOUNT}:schedule/default/{name}", {})
        if role := words.get("RoleArn"):
            yield Ask("iam:PassRole", role, {"iam:passedtoservice": ["scheduler.amazonaws.com"]})

    return ask


_ASKS: dict[str, Callable[[str, Words, str, Known], Iterator[Ask]]] = {
    "RunInstances": _run,
    "CreateSecurityGroup": _make_group,
    "TerminateInstances": _terminate,
    "CreateTags": _retag,
    "GetConsoleOutput": _each("GetConsoleOutput", "InstanceId", "instance"),
    "DeleteVolume": _each("DeleteVolume", "VolumeId", "volume"),
    "DeleteNetworkInterface": _each("DeleteNetworkInterface", "NetworkInterfaceId", "network-interface"),
    "DeleteSecurityGroup": _each("DeleteSecurityGroup", "GroupId", "security-group"),
    "CancelSpotInstanceRequests": _each(
        "CancelSpotInstanceRequests", "SpotInstanceRequestId", "spot-instances-request"
    ),
    **{f"{what}Schedule": _schedule(f"{what}Schedule") for what in ("Create", "Delete", "Get")},
    "GetCallerIdentity": _nothing,
    "GetRole": _get_role,
    **{f"{what}SecurityGroupIngress": _open(f"{what}SecurityGroupIngress") for what in ("Authorize", "Revoke")},
}


def _tagging(arn: str, words: Words, action: str) -> Iterator[Ask]:
    """Tags given in a call that makes something are authorized once more, as tags."""
    for kind, tags in _tagged(words):
        yield Ask("ec2:CreateTags", f"{arn}{kind}/*", {**_asked(tags), "ec2:createaction": [action]})


def _tagged(words: Words) -> Iterator[tuple[str, Tags]]:
    for path, kind in words.items():
        if match := re.fullmatch(r"(TagSpecification\.\d+)\.ResourceType", path):
            yield kind, _pairs(words, f"{match[1]}.Tag")


def _pairs(words: Words, under: str) -> Tags:
    keys = {path: value for path, value in words.items() if re.fullmatch(re.escape(under) + r"\.\d+\.Key", path)}
    return {key: words.get(path.removesuffix("Key") + "Value", "") for path, key in keys.items()}


def _asked(tags: Tags) -> dict[str, Sequence[str]]:
    context: dict[str, Sequence[str]] = {f"aws:requesttag/{key.lower()}": [value] for key, value in tags.items()}
    return context | ({"aws:tagkeys": list(tags)} if tags else {})


def _has(tags: Tags) -> dict[str, Sequence[str]]:
    return {f"{whose}:resourcetag/{key.lower()}": [value] for key, value in tags.items() for whose in ("aws", "ec2")}


def _applies(statement: Mapping[str, Any], ask: Ask) -> bool:
    if not any(_like(ask.action.lower(), one.lower()) for one in _many(statement["Action"])):
        return False
    if not any(_like(ask.resource, one) for one in _many(statement["Resource"])):
        return False
    return all(
        _OPERATORS[operator](ask.context.get(key.lower()), _many(wanted))
        for operator, keys in statement.get("Condition", {}).items()
        for key, wanted in keys.items()
    )


def _equals(found: Sequence[str] | None, wanted: Sequence[str]) -> bool:
    return found is not None and any(value in wanted for value in found)


def _is_like(found: Sequence[str] | None, wanted: Sequence[str]) -> bool:
    return found is not None and any(_like(value, one) for value in found for one in wanted)


def _all_like(found: Sequence[str] | None, wanted: Sequence[str]) -> bool:
    return all(any(_like(value, one) for one in wanted) for value in found or ())


def _is_null(found: Sequence[str] | None, wanted: Sequence[str]) -> bool:
    return (found is None) == (wanted == ["true"])


_OPERATORS: dict[str, Callable[[Sequence[str] | None, Sequence[str]], bool]] = {
    "StringEquals": _equals,
    "StringLike": _is_like,
    "ForAllValues:StringLike": _all_like,
    "Null": _is_null,
}


def _like(value: str, pattern: str) -> bool:
    """`*` is any text, `?` one character."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), value, re.DOTALL) is not None


def _many(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
