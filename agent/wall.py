"""Keeping one user from the metadata service: whoever can read it can be what the machine is to its cloud.

A rule of the kernel's packet filter that matches who owns the socket, set by nft where there is one, else by iptables.
"""

from __future__ import annotations

import contextlib
import subprocess

_IPV6 = "fd00:ec2::254"  # Source: EC2 user guide, "Access instance metadata": where IPv6 was switched on
_EMPTY = "table inet gpu_runner_{uid}\ndelete table inet gpu_runner_{uid}\n"  # works whether it is there or not
_TABLE = """table inet gpu_runner_{uid} {{
    chain output {{
        type filter hook output priority 0; policy accept;
        meta skuid {uid} ip daddr {address} reject
        meta skuid {uid} ip6 daddr {ipv6} reject
    }}
}}
"""


class WallError(Exception):
    """It cannot be done here; why."""


def shut(uid: int, address: str) -> None:
    """From now on no process of `uid` reaches `address`. Raises: WallError."""
    troubles = []
    for way in (_nft, _iptables):
        try:
            return way(uid, address)
        except FileNotFoundError:
            continue
        except (OSError, subprocess.SubprocessError) as error:
            said = error.stderr.decode("utf-8", "replace") if isinstance(error, subprocess.CalledProcessError) else ""
            troubles.append(f"{way.__name__[1:]}: {(said.strip() or str(error)).splitlines()[-1]}")
    raise WallError("; ".join(troubles) or "this machine has neither nft nor iptables")


def open_again(uid: int, address: str) -> None:
    """Take away what `shut` did."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        _run(["nft", "-f", "-"], _EMPTY.format(uid=uid))
    _without(_rule(uid, address))


def _nft(uid: int, address: str) -> None:
    _run(["nft", "-f", "-"], (_EMPTY + _TABLE).format(uid=uid, address=address, ipv6=_IPV6))


def _iptables(uid: int, address: str) -> None:
    rule = _rule(uid, address)
    _without(rule)
    _run(["iptables", "-w", "-I", "OUTPUT", "1", *rule])


def _without(rule: list[str]) -> None:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        while True:
            _run(["iptables", "-w", "-D", "OUTPUT", *rule])


def _rule(uid: int, address: str) -> list[str]:
    return ["-d", address, "-m", "owner", "--uid-owner", str(uid), "-j", "REJECT"]


def _run(words: list[str], text: str = "") -> None:
    """Raises: OSError, CalledProcessError."""
    subprocess.run(words, input=text.encode(), capture_output=True, check=True, timeout=30)
