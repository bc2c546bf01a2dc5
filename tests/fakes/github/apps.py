"""Who asks: personal tokens, and Apps with their JSON Web Tokens and installations. PyJWT checks what our own client
signs without it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from .state import Time

TOKEN = "ghp_classic-token-of-ada"  # may do everything
TOKEN_LIVES_S = 3600.0


@dataclass(frozen=True)
class Who:
    """`key` is whose budget it is. `account` "" may see everything; `app`: asked as the App itself."""

    key: str
    account: str = ""
    app: bool = False

    @property
    def installed(self) -> bool:
        return self.key.startswith("installation")


@cache
def key_pair() -> tuple[str, str]:
    """Private and public, in PEM; the same for a whole process, since making one takes a while."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


@dataclass
class Accounts:
    clock: Time
    tokens: dict[str, str] = field(default_factory=lambda: {TOKEN: ""})
    client_id: str = "Iv23fake"
    installations: dict[str, int] = field(default_factory=lambda: {"acme": 501})
    issued: dict[str, tuple[str, float]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def who(self, authorization: str) -> Who | None:
        """None: bad credentials."""
        token = authorization.removeprefix("Bearer ")
        if token in self.tokens:
            return Who(f"token {token}", self.tokens[token])
        if token in self.issued:
            account, until_s = self.issued[token]
            return Who(f"installation {account}", account) if self.clock.monotonic() < until_s else None
        return Who("app", app=True) if self._is_app(token) else None

    def _is_app(self, token: str) -> bool:
        try:
            claims = jwt.decode(
                token, key_pair()[1], algorithms=["RS256"], options={"verify_exp": False, "verify_iat": False}
            )
        except jwt.InvalidTokenError:
            return False
        now = self.clock.now().timestamp()
        fresh = claims["iat"] <= now < claims["exp"] <= now + 600 and token not in self.seen
        self.seen.add(token)
        return fresh and claims["iss"] == self.client_id

    def issue(self, installation: int) -> tuple[str, str] | None:
        """A token and until when it is good."""
        account = next((name for name, number in self.installations.items() if number == installation), None)
        if account is None:
            return None
        token = f"ghs_{account}-{len(self.issued)}-installation-token"
        self.issued[token] = (account, self.clock.monotonic() + TOKEN_LIVES_S)
        return token, f"{self.clock.now() + timedelta(seconds=TOKEN_LIVES_S):%Y-%m-%dT%H:%M:%SZ}"

    def revoke(self) -> None:
        """All that was issued."""
        self.issued.clear()
