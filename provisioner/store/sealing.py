"""Secrets at rest: Fernet under the controller's key; a keyed fingerprint tells values apart without showing them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import TYPE_CHECKING

from provisioner.domain.errors import StoreError

if TYPE_CHECKING:
    from cryptography.fernet import Fernet


class Sealer:
    """`key`: 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, value: str) -> bytes:
        return self._fernet().encrypt(value.encode())

    def open(self, sealed: bytes) -> str:
        """Raises: StoreError when the key is not the one it was sealed with."""
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet().decrypt(sealed).decode()
        except InvalidToken as error:
            raise StoreError(
                "a secret was sealed with another key", hint="restore RUNNER_SECRET_KEY, or set it again"
            ) from error

    def fingerprint(self, value: str) -> str:
        return hmac.new(self._key, value.encode(), hashlib.sha256).hexdigest()[:12]

    def _fernet(self) -> Fernet:
        from cryptography.fernet import Fernet

        return Fernet(base64.urlsafe_b64encode(self._key))
