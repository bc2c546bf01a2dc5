"""How a machine ends: as its configuration says, and never a computer that we did not rent.

`poweroff` needs proof. At the first boot the cloud's metadata service is asked which instance this is and what
user-data it was given; only if that carries our own computed name is the instance's id pinned. At the end the id is
asked for again and must be the same; a service that is silent then is excused by a match earlier in the same boot.
"""

from __future__ import annotations

from typing import Optional

from . import http1, wire, workload
from .config import Home
from .duties import Turn
from .files import read_json, write_json
from .http1 import Connection
from .say import say

_FILE = "identity.json"
_TIMEOUT_S = 2.0
_ASK_AGAIN_S = 5.0
_TOKEN_TTL_S = "60"


class Identity:
    """The duty of pinning: `run` goes on asking until this boot has an answer."""

    def __init__(self, home: Home, config: wire.AgentConfig) -> None:
        self._home = home
        self._config = config

    def run(self, turn: Turn) -> None:
        while not turn.over:
            turn.wait(_ASK_AGAIN_S if not pin(self._home, self._config) else 3600.0)


def pin(home: Home, config: wire.AgentConfig) -> bool:
    """Pin once; note a match in this boot. False when the service was silent."""
    pinned = read_json(home.file(_FILE))
    found = instance_id(config.metadata_url)
    if found is None:
        return False
    if pinned is None:
        if config.name.encode() not in (_ask(config.metadata_url, "user-data") or b""):
            say("identity.not_ours", instance_id=found)
            return True
        pinned = {"instance_id": found}
    if pinned["instance_id"] == found:
        write_json(home.file(_FILE), {**pinned, "matched_boot": workload.boot_id()}, durable=True)
    return True


def may_power_off(home: Home, config: wire.AgentConfig) -> bool:
    """Whether this is, beyond doubt, the machine that was rented."""
    pinned = read_json(home.file(_FILE))
    if config.on_end != "poweroff" or pinned is None:
        return False
    found = instance_id(config.metadata_url)
    if found is None:
        return pinned.get("matched_boot") == workload.boot_id()
    return bool(found == pinned["instance_id"])


def end_machine(home: Home, config: wire.AgentConfig) -> None:
    """The very last thing."""
    if config.on_end == "self-delete":
        say("machine.awaits_deletion", name=config.name)
    elif config.on_end == "poweroff":
        if not may_power_off(home, config):
            say("poweroff.refused", why="this is not, beyond doubt, the machine that was rented")
            return
        import subprocess

        say("machine.powering_off")
        subprocess.run(["poweroff"], check=False)


def instance_id(url: str) -> Optional[str]:
    """What the metadata service says; None when it is silent."""
    answer = _ask(url, "meta-data/instance-id")
    return answer.decode("utf-8", "replace").strip() if answer else None


def _ask(url: str, what: str) -> Optional[bytes]:
    """One item, by a session token where the service has them (IMDSv2). Source: EC2 user guide, instance metadata."""
    token = _request(url, "PUT", "/latest/api/token", {"x-aws-ec2-metadata-token-ttl-seconds": _TOKEN_TTL_S})
    headers = {"x-aws-ec2-metadata-token": token.decode("latin-1")} if token else {}
    return _request(url, "GET", f"/latest/{what}", headers)


def _request(url: str, method: str, target: str, headers: dict[str, str]) -> Optional[bytes]:
    try:
        connection = Connection(http1.address(url), _TIMEOUT_S)
    except OSError:
        return None
    try:
        connection.send(method, target, headers)
        head = connection.head(method)
        body = connection.body()
        return body if head.status == 200 else None
    except OSError:
        return None
    finally:
        connection.close()
