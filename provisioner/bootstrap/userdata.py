"""What a rented machine is told at its first boot: `bootcmd`, run by cloud-init before anything else, at every boot.

It writes the machine's first program (`agent/boot.py`), the agent's configuration and where the agent is to be had into
a folder of root's own, and starts that program. The single-use join token is the only secret in it.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import wire
from provisioner.domain.errors import InvalidRequest, Rejected

from .hostkeys import KeyPair

STATE = "/var/lib/gpu-runner"
LIMIT = 16 * 1024  # bytes. Source: EC2 user guide, user data.
# Run by whatever python3 cloud-init itself is run by. Files that are there stay: they know more than this does.
_UNPACK = (
    "import base64,json,os,sys,zlib\n"
    "d=json.loads(zlib.decompress(base64.b64decode(sys.argv[2])));s=sys.argv[1]\n"
    "os.makedirs(s,0o700,exist_ok=True)\n"
    "for n,t in d.items():\n"
    " p=os.path.join(s,n)\n"
    " if not os.path.exists(p):\n"
    "  f=os.open(p+'.new',os.O_WRONLY|os.O_CREAT|os.O_TRUNC,0o600);os.write(f,t.encode());os.fsync(f);os.close(f)\n"
    "  os.rename(p+'.new',p)\n"
    "os.execv(sys.executable,[sys.executable,'-I',os.path.join(s,'boot.py'),'arm',s])\n"
)


@dataclass(frozen=True, slots=True)
class Door:
    """How a machine lets its controller in over SSH: the host key planted for the first connection, and whose key may
    log in as root."""

    planted: KeyPair
    admitted: str


def launched_with(name: str, config: str, agent_sha256: str, startup: str = "", door: Door | None = None) -> str:
    """`user_data` for a machine that reaches its controllers at the addresses in `config`, and fetches the agent there;
    one without such an address is given `door`, by which its controller comes.
    Raises: Rejected when there is neither, or it does not fit."""
    told = json.loads(config)
    bases = [url for url in told["urls"] if not url.startswith("unix:")]
    if not bases and door is None:
        raise Rejected(
            "a rented machine could not reach this controller",
            hint="`runner serve` with public_url: https://HOST:PORT in the settings",
        )
    urls = [base + wire.AGENT_PATH.format(sha256=agent_sha256) for base in bases]
    told_of = {"agent_urls": urls, "agent_sha256": agent_sha256, "ca_pem": told["ca_pem"], "startup": startup}
    try:
        return user_data(name=name, config=config, door=None if bases else door, **told_of)
    except InvalidRequest as error:
        raise Rejected(error.message, hint=error.hint) from error


def user_data(
    *,
    name: str,
    config: str,
    agent_urls: Sequence[str],
    agent_sha256: str,
    ca_pem: str = "",
    startup: str = "",
    door: Door | None = None,
    state: str = STATE,
) -> str:
    """cloud-config as text. `config` is the agent's, as JSON; `startup` a shell script that runs once before the agent;
    `ca_pem` the one authority that `agent_urls` are checked against. Raises: InvalidRequest when it does not fit."""
    boot = {"urls": list(agent_urls), "sha256": agent_sha256, "ca_pem": ca_pem, "startup": startup}
    program = Path(wire.__file__).with_name("boot.py").read_text()
    files = {"boot.py": program, "boot.json": json.dumps(boot), "config.json": config}
    packed = base64.b64encode(zlib.compress(json.dumps(files).encode(), 9)).decode()
    command = ["python3", "-I", "-c", _UNPACK, state, packed]
    told = {"bootcmd": [command], **(_let_in(door) if door else {})}
    text = f"#cloud-config\n# gpu-runner: {name}\n{json.dumps(told)}\n"
    if len(text) > LIMIT:
        raise InvalidRequest(
            f"user-data of {len(text)} bytes is over the limit of {LIMIT}",
            hint="make the startup script shorter; it can fetch the rest",
        )
    return text


def _let_in(door: Door) -> dict[str, Any]:
    """Source: cloud-init reference, modules SSH and Users."""
    return {
        "ssh_deletekeys": True,
        "ssh_genkeytypes": [],
        "ssh_keys": {"ed25519_private": door.planted.private, "ed25519_public": door.planted.public},
        "disable_root": False,
        "ssh_authorized_keys": [door.admitted],
    }
