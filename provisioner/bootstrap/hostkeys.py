"""SSH keys as OpenSSH writes them: ours, and the one that is planted on a machine for its first connection.

The planted key is made from a secret of ours and the machine's name, so that launching it again plants the same.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_KIND = b"ssh-ed25519"
_RAW = serialization.Encoding.Raw
_LINE = 70
_BLOCK = 8  # of the cipher "none"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """`private` as a file that ssh-keygen would make, `public` as `ssh-ed25519 AAAA...`."""

    private: str = field(repr=False)
    public: str


def new_pair() -> KeyPair:
    return _pair(Ed25519PrivateKey.generate())


def planted_pair(secret: bytes, name: str) -> KeyPair:
    """The same for the same words."""
    seed = hmac.new(secret, f"host-key|{name}".encode(), hashlib.sha256).digest()
    return _pair(Ed25519PrivateKey.from_private_bytes(seed))


def _pair(key: Ed25519PrivateKey) -> KeyPair:
    """Packed here because the library puts a random number in, and what is planted twice must be the same.

    Source: OpenSSH, PROTOCOL.key.
    """
    seed = key.private_bytes(_RAW, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    public = key.public_key().public_bytes(_RAW, serialization.PublicFormat.Raw)
    blob = _string(_KIND) + _string(public)
    check = hashlib.sha256(seed + b"check").digest()[:4]
    inner = check * 2 + blob + _string(seed + public) + _string(b"")
    inner += bytes(range(1, _BLOCK - len(inner) % _BLOCK + 1)) if len(inner) % _BLOCK else b""
    whole = b"openssh-key-v1\0" + _string(b"none") * 2 + _string(b"") + struct.pack(">I", 1)
    text = base64.b64encode(whole + _string(blob) + _string(inner)).decode()
    lines = [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
    begin, end = (f"-----{word} OPENSSH PRIVATE KEY-----" for word in ("BEGIN", "END"))
    return KeyPair("\n".join([begin, *lines, end, ""]), f"{_KIND.decode()} {base64.b64encode(blob).decode()}")


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
