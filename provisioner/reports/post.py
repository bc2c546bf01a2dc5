"""One comment, kept up to date: found again by a hidden mark, whoever else posts at the same time.

The oldest comment of our own that begins with the mark is the one: what somebody else wrote they could change again,
though we may edit it. Whoever adds one looks again afterwards: where an older one has
come meanwhile, that one is brought up to date and the new one taken away.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from urllib.parse import quote

from provisioner.domain.errors import ForgeRefused, ForgeUnauthorized
from provisioner.domain.forge import Comment, Reviews, Site, Target

_LONGEST_KEY = 100


def mark(key: str) -> str:
    """A line that forges do not show. No key can end the comment that it is in."""
    clean = quote(re.sub(r"\s+", " ", key.strip())[:_LONGEST_KEY], safe=" .:/").replace("--", "%2D-")
    return f"<!-- gpu-runner report: {clean} -->"


def marked(key: str, body: str) -> str:
    return f"{mark(key)}\n{body}"


async def upsert(reviews: Reviews, site: Site, target: Target, key: str, body: str) -> Comment:
    """The one comment of this key there says `body` now. Raises: ForgeError."""
    text = marked(key, body)
    ours = await _ours(reviews, site, target, key)
    if (edited := await _edit_first(reviews, site, target, ours, text)) is not None:
        return edited
    added = await reviews.add(site, target, text)
    older = []
    for one in await _ours(reviews, site, target, key):
        if one.id == added.id:
            break
        older.append(one)
    if (edited := await _edit_first(reviews, site, target, older, text)) is None:
        return added
    await reviews.drop(site, target, added.id)
    return edited


async def _ours(reviews: Reviews, site: Site, target: Target, key: str) -> list[Comment]:
    """Oldest first. The mark has to be the first line: whoever quotes a report does not become one."""
    begin = mark(key)
    return [one for one in await reviews.comments(site, target) if one.mine and one.body.lstrip().startswith(begin)]


async def _edit_first(
    reviews: Reviews, site: Site, target: Target, candidates: Sequence[Comment], text: str
) -> Comment | None:
    """The oldest that we may edit."""
    for one in candidates:
        if one.body == text:
            return one
        with contextlib.suppress(ForgeRefused, ForgeUnauthorized):
            return await reviews.edit(site, target, one.id, text)
    return None
