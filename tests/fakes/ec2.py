"""EC2 as a server: moto's, behind a proxy of ours that adds what moto lacks and breaks what a network breaks.

Added: client tokens that work (one machine a token, `IdempotentParameterMismatch` for another request under it, and for
a token whose machine is gone that machine again), a choice of enabled regions, instances that show late, images under
the paths of their publishers, consoles, and what EC2 says of a machine that it took back; IAM, which holds the program
(known by its user agent) to the policy that ships with it, and nobody else; and, once a test names any, keys of
accounts, with no answer for others. Broken, as a test says:
answers lost after the effect, and any error code in its place.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from . import s3
from .aws_account import Account, refused
from .iam import Policy, refusal
from .moto_account import MotoAccount
from .trouble import Trouble, due

REGIONS = ("eu-west-1", "us-east-1")
IMAGES = "/aws/service/"
PROGRAM = "gpu-runner"  # in the user agent of every client of ours
_XMLNS = "http://ec2.amazonaws.com/doc/2016-11-15/"
_IN_SCOPE = re.compile(r"Credential=([^/]+)/\d+/([a-z0-9-]+)/([a-z0-9]+)/")
for _known in (_XMLNS, _XMLNS.rstrip("/")):
    ET.register_namespace("", _known)


@dataclass
class Key:
    """An access key's owner. `over`: the key was good once."""

    arn: str
    over: bool = False

    @property
    def account(self) -> str:
        return self.arn.split(":")[4]


@dataclass
class Cloud:
    """State of the proxy, and how a test plays the cloud. `late_s`: how long after its launch an instance shows;
    `addresses`: where an instance really is; `policy`: what the program may do; `denied`: what it was told that it may
    not; `console`: what an instance printed, None for moto's own words; `taken`: instances that EC2 ended itself."""

    endpoint: str = ""
    policy: Policy = field(default_factory=Policy.shipped)
    denied: list[str] = field(default_factory=list)
    late_s: float = 0.0
    troubles: list[Trouble] = field(default_factory=list)
    calls: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    signed_by: list[tuple[str, str]] = field(default_factory=list)
    keys: dict[str, Key] = field(default_factory=dict)
    console: Callable[[str], str | None] = lambda instance: None
    taken: set[str] = field(default_factory=set)
    images: dict[str, str] = field(default_factory=dict)
    launched_at: dict[str, float] = field(default_factory=dict)
    tokens: dict[tuple[str, str], tuple[dict[str, str], str]] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    launching: threading.Lock = field(default_factory=threading.Lock)
    account: Account = field(default_factory=Account)

    def asked(self, action: str) -> list[dict[str, str]]:
        """The words of every call of `action` so far."""
        with self.lock:
            return [words for name, _, words in self.calls if name == action]

    @property
    def lacked(self) -> list[str]:
        """Rights that the program asked for in vain. To end again what is gone, and has lost its tags, is none."""
        return [one for one in self.denied if not one.startswith("ec2:TerminateInstances ")]

    def trouble_for(self, action: str) -> Trouble | None:
        with self.lock:
            return due(self.troubles, action)


@contextlib.contextmanager
def cloud(folder: Path) -> Iterator[Cloud]:
    """moto and the proxy, with an image of each architecture in each region. SDKs inside find it in the environment."""
    made = Cloud()
    with s3.moto(folder) as server:
        moto = urlsplit(server.endpoint)

        class Handler(_Handler):
            cloud = made
            upstream = (str(moto.hostname), int(moto.port or 80))

        proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
        made.endpoint = f"http://127.0.0.1:{proxy.server_port}"
        try:
            with s3.Server(made.endpoint).in_environment(), quiet():
                _register(made)
                yield made
        finally:
            proxy.shutdown()
            proxy.server_close()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The machine's own certificates and proxies have nothing to do with a loopback server."""
    names = ("AWS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


def _register(made: Cloud) -> None:
    import boto3

    for region in REGIONS:
        for arch in ("x86_64", "arm64"):
            answer = boto3.client("ec2", region_name=region).register_image(
                Name=f"runner-{arch}", Architecture=arch, RootDeviceName="/dev/sda1", VirtualizationType="hvm"
            )
            made.images[f"{region}/{arch}"] = answer["ImageId"]
    made.calls.clear()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cloud: Cloud
    upstream: tuple[str, int]
    whose: Key | None = None

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        found = _IN_SCOPE.search(self.headers.get("authorization", ""))
        key, region, service = (found[1], found[2], found[3]) if found else ("", "", "")
        words = words_of(body)
        action = words.get("Action") or self.headers.get("x-amz-target", "").rpartition(".")[2]
        if service == "scheduler":
            action, words = _scheduled(self.command, urlsplit(self.path).path, body)
        with self.cloud.lock:
            self.cloud.calls.append((action, region, words))
            self.cloud.signed_by.append((action, key))
        self.whose = self.cloud.keys.get(key)
        if self.cloud.keys and (self.whose is None or self.whose.over):
            return self._say(403, _no_key(service, known=self.whose is not None))
        trouble = self.cloud.trouble_for(action)
        if trouble is not None and not trouble.lose:
            say = _json_error if service in ("ssm", "scheduler", "pricing", "servicequotas") else refused
            return self._say(trouble.status, say(trouble.code, trouble.message))
        if (no := self._not_allowed(service, region, action, words)) is not None:
            return self._say(*no)
        status, answer = self._worked(service, region, action, words, body)
        if trouble is not None:
            self.close_connection = True
            return None
        return self._say(status, answer)

    do_GET = do_PUT = do_DELETE = do_POST

    def _not_allowed(self, service: str, region: str, action: str, words: dict[str, str]) -> tuple[int, bytes] | None:
        if PROGRAM not in self.headers.get("user-agent", ""):
            return None
        ask = self.cloud.policy.refused(service, region, action, words, MotoAccount(self.upstream))
        if ask is None:
            return None
        self.cloud.denied.append(f"{ask.action} on {ask.resource}")
        code, message = refusal(ask)
        if service in ("ssm", "scheduler"):
            return 400, json.dumps({"__type": code, "Message": message}).encode()
        return 403, refused(code, message)

    def _worked(self, service: str, region: str, action: str, words: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if service == "ssm" and action == "GetParameter" and IMAGES.encode() in body:
            return 200, self._parameter(region, body)
        if (said := self.cloud.account.answer(service, region, action, words, body)) is not None:
            return said
        if action == "GetCallerIdentity" and self.whose is not None:
            return 200, _caller(self.whose)
        if service != "ec2":
            return self._upstream(body)
        if action == "DescribeRegions":
            off = self.cloud.account.off if words.get("AllRegions") == "true" else ()
            rows = "".join(
                f"<item><regionName>{name}</regionName><regionEndpoint>ec2.{name}.amazonaws.com</regionEndpoint>"
                f"<optInStatus>{'not-opted-in' if name in off else 'opt-in-not-required'}</optInStatus></item>"
                for name in (*(one for one in REGIONS if one not in self.cloud.account.off), *off)
            )
            return 200, _answer("DescribeRegions", f"<regionInfo>{rows}</regionInfo>")
        if action == "RunInstances":
            with self.cloud.launching:
                return self._run(region, words, body)
        if action == "GetConsoleOutput" and (said := self.cloud.console(words["InstanceId"])) is not None:
            return 200, _console(words["InstanceId"], said)
        status, answer = self._upstream(self.cloud.account.narrowed(action, words) or body)
        if action == "CancelSpotInstanceRequests" and status == 500:
            return 400, refused("InvalidSpotInstanceRequestID.NotFound", "there is none")  # moto falls over it
        if action == "TerminateInstances" and b"InvalidNetworkInterfaceID.NotFound" in answer:
            return 200, _terminated(words["InstanceId.1"])  # moto fails where it was ended before
        if action == "DescribeImages" and status == 200:
            answer = self._with_architecture(region, answer)
        if action == "DescribeInstances" and status == 200:
            answer = self._with_addresses(self._with_reasons(self._without_late_ones(answer)))
        return status, answer

    def _with_reasons(self, answer: bytes) -> bytes:
        """What EC2 ended itself says so; moto knows only of people who do."""
        if not self.cloud.taken:
            return answer
        root, name = _parsed(answer)
        for item in root.iter(f"{name}item"):
            reason = item.find(f"{name}stateReason/{name}code")
            if item.findtext(f"{name}instanceId") in self.cloud.taken and reason is not None:
                reason.text = "Server.SpotInstanceTermination"
        return ET.tostring(root)

    def _run(self, region: str, words: dict[str, str], body: bytes) -> tuple[int, bytes]:
        token = region, words.get("ClientToken", "")
        if token[1] and (before := self.cloud.tokens.get(token)):
            if before[0] != words:
                return 400, refused("IdempotentParameterMismatch", f"the token {token[1]} was used for another request")
            return self._again(before[1])
        status, answer = self._upstream(body)
        if status == 200:
            (instance,) = re.findall(rb"<instanceId>(i-[0-9a-f]+)</instanceId>", answer)[:1]
            with self.cloud.lock:
                self.cloud.launched_at[instance.decode()] = time.monotonic()
                self.cloud.tokens[token] = words, instance.decode()
        return status, answer

    def _again(self, instance: str) -> tuple[int, bytes]:
        """What RunInstances says of a machine that is there already: its reservation as it is now."""
        asked = {"Action": "DescribeInstances", "InstanceId.1": instance, "Version": "2016-11-15"}
        status, answer = self._upstream(urlencode(asked).encode())
        found = re.search(rb"<reservationSet>\s*<item>(.*)</item>\s*</reservationSet>", answer, re.DOTALL)
        return (200, _answer("RunInstances", found[1].decode())) if found else (status, answer)

    def _with_architecture(self, region: str, answer: bytes) -> bytes:
        """moto forgets it."""
        for key, image in self.cloud.images.items():
            whose, _, arch = key.partition("/")
            if whose == region:
                there = f"<imageId>{image}</imageId>".encode()
                answer = answer.replace(there, there + f"<architecture>{arch}</architecture>".encode())
        return answer

    def _without_late_ones(self, answer: bytes) -> bytes:
        now = time.monotonic()
        with self.cloud.lock:
            late = {one for one, at in self.cloud.launched_at.items() if now - at < self.cloud.late_s}
        if not late:
            return answer
        root, name = _parsed(answer)
        for reservations in root.iter(f"{name}reservationSet"):
            for reservation in list(reservations):
                instances = reservation.find(f"{name}instancesSet")
                for instance in list(instances if instances is not None else ()):
                    if instance.findtext(f"{name}instanceId") in late and instances is not None:
                        instances.remove(instance)
                if instances is None or not len(instances):
                    reservations.remove(reservation)
        return ET.tostring(root)

    def _with_addresses(self, answer: bytes) -> bytes:
        if not self.cloud.addresses:
            return answer
        root, name = ET.fromstring(answer), "{*}"
        for instances in root.iterfind(f".//{name}instancesSet"):
            for instance in instances:
                address = self.cloud.addresses.get(instance.findtext(f"{name}instanceId", ""))
                if address and (field := instance.find(f"{name}ipAddress")) is not None:
                    field.text = address
        return ET.tostring(root)

    def _parameter(self, region: str, body: bytes) -> bytes:
        arch = "arm64" if b"arm64" in body else "x86_64"
        image = self.cloud.images[f"{region}/{arch}"]
        return b'{"Parameter": {"Name": "image", "Type": "String", "Value": "%s", "Version": 1}}' % image.encode()

    def _upstream(self, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(*self.upstream, timeout=60)
        keep = {
            key: value for key, value in self.headers.items() if key.lower() not in ("content-length", "connection")
        }
        if self.whose is not None:
            keep["x-moto-account-id"] = self.whose.account
        try:
            connection.request(self.command, self.path, body, keep)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _say(self, status: int, answer: bytes) -> None:
        kind = "application/x-amz-json-1.1" if answer.startswith((b"{", b"[")) else "text/xml"
        head = f"HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {len(answer)}\r\n\r\n"
        with contextlib.suppress(OSError):
            self.wfile.write(head.encode() + answer)

    def log_message(self, *_: Any) -> None:
        return


def words_of(body: bytes) -> dict[str, str]:
    if body.startswith(b"{"):
        return {key: str(value) for key, value in json.loads(body).items()}
    return {key: values[0] for key, values in parse_qs(body.decode("utf-8", "replace")).items()}


def _parsed(answer: bytes) -> tuple[ET.Element, str]:
    """An answer, and what its tags begin with: moto writes the namespace in a way of its own."""
    root = ET.fromstring(answer)
    return root, root.tag[: root.tag.index("}") + 1]


def _scheduled(method: str, path: str, body: bytes) -> tuple[str, dict[str, str]]:
    """EventBridge Scheduler speaks REST: its action and words, as the other services say them."""
    name = path.removeprefix("/schedules").lstrip("/")
    action = {"POST": "CreateSchedule", "DELETE": "DeleteSchedule"}.get(
        method, "GetSchedule" if name else "ListSchedules"
    )
    said = json.loads(body) if body else {}
    said |= {"RoleArn": said["Target"]["RoleArn"]} if "Target" in said else {}
    return action, {"Name": name} | {key: value for key, value in said.items() if isinstance(value, str)}


def _json_error(code: str, message: str) -> bytes:
    return json.dumps({"__type": code, "message": message}).encode()


def _console(instance: str, said: str) -> bytes:
    text = base64.b64encode(said.encode()).decode()
    inside = f"<instanceId>{instance}</instanceId><timestamp>2026-01-05T09:00:00Z</timestamp><output>{text}</output>"
    return _answer("GetConsoleOutput", inside)


def _answer(action: str, inside: str) -> bytes:
    return f'<{action}Response xmlns="{_XMLNS}"><requestId>r-1</requestId>{inside}</{action}Response>'.encode()


def _terminated(instance: str) -> bytes:
    state = "<code>48</code><name>terminated</name>"
    item = (
        f"<instanceId>{instance}</instanceId><currentState>{state}</currentState><previousState>{state}</previousState>"
    )
    return _answer("TerminateInstances", f"<instancesSet><item>{item}</item></instancesSet>")


def _caller(key: Key) -> bytes:
    inside = f"<Arn>{key.arn}</Arn><UserId>AIDA</UserId><Account>{key.account}</Account>"
    told = f"<GetCallerIdentityResult>{inside}</GetCallerIdentityResult>"
    space = "https://sts.amazonaws.com/doc/2011-06-15/"
    return f'<GetCallerIdentityResponse xmlns="{space}">{told}</GetCallerIdentityResponse>'.encode()


def _no_key(service: str, *, known: bool) -> bytes:
    """EC2 and STS have words and a form each of their own."""
    if service == "sts":
        code = "ExpiredToken" if known else "InvalidClientTokenId"
        message = "The security token included in the request is " + ("expired" if known else "invalid")
        return f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>".encode()
    if service == "ec2":
        invalid = "AWS was not able to validate the provided access credentials"
        return refused("RequestExpired", "Request has expired.") if known else refused("AuthFailure", invalid)
    code = "ExpiredTokenException" if known else "UnrecognizedClientException"
    return b'{"__type": "%s", "message": "no"}' % code.encode()
