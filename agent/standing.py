"""A right to write below an attempt's prefix that outlasts a silent controller, where the object store can sign one.

It is asked for when the attempt begins, and again long before it ends. While the controller is away files go up with
it, and beside them the manifest under a name of its own (`left.json`), so that what a job made can be had even if its
machine never hears of its controller again. The store's side is the POST policy of S3.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, Callable, Optional

from .config import boottime
from .link import Link, Unreachable

_RENEWED_AT = 0.25  # of its time
_ASK_AGAIN_S = 30.0


class Standing:
    """`due` says when to ask (again); `sent` are the keys that went up by it."""

    def __init__(self) -> None:
        self.sent: set[str] = set()
        self._post: Optional[dict[str, Any]] = None
        self._ask_at = 0.0
        self._ends_at = 0.0

    @property
    def due(self) -> bool:
        return boottime() >= self._ask_at

    @property
    def usable(self) -> bool:
        return self._post is not None and boottime() < self._ends_at

    def take(self, post: Optional[dict[str, Any]], expires_s: float) -> None:
        """What the controller gave; nothing, where the store has no such right, is not asked for again."""
        now = boottime()
        self._post, self._ends_at = post, now + expires_s
        self._ask_at = now + expires_s * _RENEWED_AT if post is not None else float("inf")

    def postpone(self) -> None:
        self._ask_at = boottime() + _ASK_AGAIN_S

    def send(self, link: Link, key: str, size: int, body: Callable[[], Iterator[bytes]]) -> None:
        """Raises: Unreachable, Refused, and what `body` raises."""
        if self._post is None or not self.usable:
            raise Unreachable("there is no standing right to write")
        boundary = uuid.uuid4().hex
        fields = {**self._post["fields"], "key": self._post["fields"]["key"].replace("${filename}", key)}
        parts = [
            f'--{boundary}\r\ncontent-disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()
        ]
        before = "".join(parts) + f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n'
        head, tail = before.encode(), f"\r\n--{boundary}--\r\n".encode()

        def whole() -> Iterator[bytes]:
            yield head
            yield from body()
            yield tail

        headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
        size += len(head) + len(tail)
        with link.exchange("POST", self._post["url"], headers, whole, size=size) as (_, connection):
            connection.body()
        self.sent.add(key)
