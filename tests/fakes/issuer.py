"""A forge's issuer of tokens for CI jobs: discovery and keys over real HTTP, and every kind of token that is wrong.

`ask` is what a step asks at GitHub: the token for an audience, for whoever has the step's bearer.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

STEP_BEARER = "bearer-of-the-step"


@cache
def private_key(key_id: str) -> RSAPrivateKey:
    """One for each name in a whole test run: making them is what takes time."""
    return generate_private_key(65537, 2048)


class Issuer:
    """`keys` are the ids of those that it publishes, the first of which it signs with. `down`: it answers 503."""

    def __init__(self) -> None:
        self.keys = ["key-1"]
        self.down = False
        self.says_it_is = ""
        self.asked: list[str] = []
        self.claims: dict[str, Any] = {}

    def __enter__(self) -> Issuer:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"issuer": self}))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def token(self, claims: dict[str, Any], *, key_id: str = "", **header: str) -> str:
        """Signed as it should be, with the key `key_id`."""
        name = key_id or self.keys[0]
        return jwt.encode(claims, private_key(name), algorithm="RS256", headers={"kid": name, **header})

    def unsigned(self, claims: dict[str, Any]) -> str:
        """As RFC 7519, section 6 has it: nobody signed it, and it says so."""
        return f"{_packed({'alg': 'none', 'typ': 'JWT', 'kid': self.keys[0]})}.{_packed(claims)}."

    def confused(self, claims: dict[str, Any]) -> str:
        """Sealed with the public key as if that were a secret (RFC 8725, section 2.1)."""
        public = private_key(self.keys[0]).public_key()
        pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        said = f"{_packed({'alg': 'HS256', 'typ': 'JWT', 'kid': self.keys[0]})}.{_packed(claims)}"
        return f"{said}.{_b64(hmac.new(pem, said.encode(), hashlib.sha256).digest())}"

    def answer(self, path: str, bearer: str) -> tuple[int, dict[str, Any]]:
        parts = urlsplit(path)
        self.asked.append(parts.path)
        if self.down:
            return 503, {}
        if parts.path == "/.well-known/openid-configuration":
            return 200, {"issuer": self.says_it_is or self.url, "jwks_uri": f"{self.url}/jwks"}
        if parts.path == "/jwks":
            return 200, {"keys": [_public(name) for name in self.keys]}
        if parts.path == "/step" and bearer == f"bearer {STEP_BEARER}":
            return 200, {"value": self.token({**self.claims, "aud": parse_qs(parts.query)["audience"][0]})}
        return 401, {}


def _public(name: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(private_key(name).public_key()))
    return {"kty": "RSA", "n": told["n"], "e": told["e"], "kid": name, "use": "sig", "alg": "RS256"}


def _packed(part: dict[str, Any]) -> str:
    return _b64(json.dumps(part).encode())


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class _Handler(BaseHTTPRequestHandler):
    issuer: Issuer

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        status, body = self.issuer.answer(self.path, self.headers.get("Authorization", ""))
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
