"""An EC2 that is fast and large: ten thousand instances, the published limits, all requests and answers by the model.

One thread answers; a test in another changes what it likes between two calls. What moto knows and this does not is no
action here. Held to the provider's laws, as moto is.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import fastec2_wire as wire
from . import s3
from .ec2 import PROGRAM, REGIONS, quiet, words_of
from .fastec2_limits import Limits
from .fastec2_machines import Machines
from .fastec2_region import Region
from .fastec2_wire import Refused
from .iam import Policy, Tags, refusal
from .trouble import Trouble, due

_IN_SCOPE = re.compile(r"Credential=[^/]+/\d+/([a-z0-9-]+)/([a-z0-9]+)/")


@dataclass
class FastCloud:
    """`calls` are (action, region, parameters, when by `time.monotonic()`), as they arrived; `limits` None is an
    account that is never throttled; `policy` None one whose callers may do everything."""

    endpoint: str = ""
    limits: Limits | None = field(default_factory=Limits)
    policy: Policy | None = field(default_factory=Policy.shipped)
    denied: list[str] = field(default_factory=list)
    profiles: dict[str, list[str]] = field(default_factory=dict)
    troubles: list[Trouble] = field(default_factory=list)
    calls: list[tuple[str, str, dict[str, Any], float]] = field(default_factory=list)
    regions: dict[str, Region] = field(default_factory=dict)

    def asked(self, action: str) -> list[dict[str, Any]]:
        return [asked for name, _, asked, _ in list(self.calls) if name == action]

    def machines(self, region: str = "us-east-1") -> Machines:
        return self.regions[region].machines

    def set_late(self, late_s: float) -> None:
        """How long after its launch a machine shows, everywhere."""
        for region in self.regions.values():
            region.machines.late_s = late_s

    def tags_of(self, region: str, resource: str) -> Tags:
        return self.regions[region].tags_of(resource)

    def roles_of(self, profile: str) -> Sequence[str]:
        return self.profiles.get(profile, [])

    def answer(self, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes] | None:
        """Status and body, or None for an answer that is lost."""
        found = _IN_SCOPE.search(headers.get("authorization", ""))
        region, service = (found[1], found[2]) if found else ("", "")
        words = words_of(body)
        action = words.get("Action") or headers.get("x-amz-target", "").rpartition(".")[2]
        error, status, trouble = (wire.error if service == "ec2" else wire.error_json), 200, due(self.troubles, action)
        try:
            if trouble is not None and not trouble.lose:
                raise Refused(trouble.code, trouble.message, trouble.status)
            answer = self._answer(service, region, action, words, body, headers.get("user-agent", ""))
        except Refused as no:
            status, answer = no.status, error(no.code, no.message)
        return (status, answer) if trouble is None or not trouble.lose else None

    def _answer(self, service: str, region: str, action: str, words: dict[str, str], body: bytes, agent: str) -> bytes:
        if service not in ("ec2", "ssm") or region not in self.regions:
            raise Refused("AuthFailure", f"nothing here of {service} in {region}", 401)
        ec2 = service == "ec2"
        asked = wire.parsed(action, words) if ec2 else wire.parsed_json(service, action, body)
        self.calls.append((action, region, asked, time.monotonic()))
        if ec2 and self.limits is not None:
            self.limits.charge(region, action, asked)
        if self.policy is not None and PROGRAM in agent:
            self._allow(self.policy, service, region, action, words)
        if action == "RunInstances" and (profile := asked.get("IamInstanceProfile", {}).get("Name")):
            self._check_profile(profile)
        result = self.regions[region].do(action, asked)
        return wire.answered(action, result) if ec2 else wire.answered_json(service, action, result)

    def _allow(self, policy: Policy, service: str, region: str, action: str, words: dict[str, str]) -> None:
        if (ask := policy.refused(service, region, action, words, self)) is not None:
            self.denied.append(f"{ask.action} on {ask.resource}")
            raise Refused(*refusal(ask), 400 if service == "ssm" else 403)

    def _check_profile(self, profile: str) -> None:
        if profile not in self.profiles:
            what = "for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"
            raise Refused("InvalidParameterValue", f"Value ({profile}) {what}")


@contextlib.contextmanager
def fast_cloud(**how: Any) -> Iterator[FastCloud]:
    """On loopback, in a thread; SDKs inside find it in the environment."""
    made = FastCloud(regions={name: Region(name, REGIONS) for name in REGIONS}, **how)
    loop, ready = asyncio.new_event_loop(), threading.Event()

    async def serve() -> None:
        server = await asyncio.start_server(lambda r, w: _serve(made, r, w), "127.0.0.1", 0, limit=2**20)
        made.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve())
        loop.run_forever()
        connections = asyncio.all_tasks(loop)
        for task in connections:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*connections, return_exceptions=True))
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait(30)
    try:
        with s3.Server(made.endpoint).in_environment(), quiet():
            yield made
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)


async def _serve(cloud: FastCloud, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, as long as the client keeps it."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[1:]
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head)}
            answer = cloud.answer(headers, await reader.readexactly(int(headers.get("content-length", "0"))))
            if answer is None:
                break
            status, body = answer
            kind = "application/x-amz-json-1.1" if body.startswith(b"{") else "text/xml"
            lines = f"HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(lines.encode() + body)
            await writer.drain()
    writer.close()
