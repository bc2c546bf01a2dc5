"""Private keys of the controller's own, kept in the database under its secret key: made once, found by all others."""

from __future__ import annotations

import base64
from collections.abc import Callable

from cryptography.fernet import Fernet

from provisioner.domain.store import Records

AUTHORITY = "tls.authority"
LOGIN = "ssh.login"
_ALL = (AUTHORITY, LOGIN)


async def kept(records: Records, secret_key: bytes, name: str, make: Callable[[], bytes]) -> bytes:
    """What the first controller to come has made."""
    fernet = _fernet(secret_key)
    stored = await records.meta(name)
    if stored is None:
        stored = await records.set_meta(name, fernet.encrypt(make()).decode(), only_new=True)
    return fernet.decrypt(stored.encode())


async def reseal(records: Records, old_key: bytes, new_key: bytes) -> None:
    """Keep them under another secret key, so that who trusts them goes on trusting them."""
    for name in _ALL:
        stored = await records.meta(name)
        if stored is not None:
            opened = _fernet(old_key).decrypt(stored.encode())
            await records.set_meta(name, _fernet(new_key).encrypt(opened).decode())


def _fernet(key: bytes) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(key))
