"""What a report or comment may be put on, as people write it."""

from __future__ import annotations

import pytest

from provisioner.domain.errors import InvalidRequest
from provisioner.domain.forge import Target
from provisioner.domain.step import parse_target

HEAD = "a" * 40


@pytest.mark.parametrize(
    ("text", "target"),
    [("pr/42", Target("pr", "42")), ("issue/1", Target("issue", "1")), (f"commit/{HEAD}", Target("commit", HEAD))],
)
def test_targets_are_read(text: str, target: Target) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize("text", ["", "pr", "pr/", "pr/x", "pr/0", "commit/abc", "tag/1", "pr/1/2", "commit/HEAD"])
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="not a target"):
        parse_target(text)
