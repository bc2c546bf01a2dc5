"""The port `Reviews` in memory: comments and checks, and what goes on at the same time is in the test's hands.

`before_add` is awaited when somebody is about to add a comment: whoever waits there has not seen the others' yet.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from provisioner.domain.errors import ForgeRefused, ForgeUnauthorized
from provisioner.domain.forge import Comment, Conclusion, Reviews, Site, Target


async def _at_once() -> None:
    return None


@dataclass
class FakeReviews:
    """`not_ours` are ids of comments that somebody else wrote; `guarded`: only they may change them."""

    longest: int = 65_536
    said: list[Comment] = field(default_factory=list)
    checks: list[tuple[str, str, Conclusion, str, str]] = field(default_factory=list)
    not_ours: set[str] = field(default_factory=set)
    guarded: bool = True
    calls: list[str] = field(default_factory=list)
    before_add: Callable[[], Awaitable[None]] = _at_once
    _count: int = 0

    @contextlib.asynccontextmanager
    async def opened(self, where: object) -> AsyncIterator[Reviews]:
        yield self

    def say(self, *bodies: str) -> None:
        for body in bodies:
            self._count += 1
            mine = str(self._count) not in self.not_ours
            self.said.append(Comment(str(self._count), body, f"https://forge.example/c/{self._count}", mine))

    async def comments(self, site: Site, target: Target) -> Sequence[Comment]:
        self.calls.append("comments")
        return list(self.said)

    async def add(self, site: Site, target: Target, body: str) -> Comment:
        await self.before_add()
        self.calls.append("add")
        self._check(body)
        self.say(body)
        return self.said[-1]

    async def edit(self, site: Site, target: Target, comment_id: str, body: str) -> Comment:
        self.calls.append("edit")
        self._check(body)
        if comment_id in self.not_ours and self.guarded:
            raise ForgeUnauthorized("not your comment")
        for number, one in enumerate(self.said):
            if one.id == comment_id:
                self.said[number] = replace(one, body=body)
                return self.said[number]
        raise ForgeRefused("no such comment")

    async def drop(self, site: Site, target: Target, comment_id: str) -> None:
        self.calls.append("drop")
        self.said = [one for one in self.said if one.id != comment_id]

    async def check(self, site: Site, sha: str, name: str, conclusion: Conclusion, title: str, text: str) -> str:
        self._check(text)
        self.checks.append((sha, name, conclusion, title, text))
        return "https://forge.example/check"

    def _check(self, body: str) -> None:
        if len(body) > self.longest:
            raise ForgeRefused("too long")
