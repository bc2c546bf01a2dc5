"""The laws of `domain.forge.Reviews`, one test each or more. An adapter inherits them with three fixtures.

`forge` is the adapter, `site` a repository, `world` the forge's own side of what people read there.
"""

from __future__ import annotations

from typing import Protocol

import pytest

from provisioner.domain.errors import ForgeError, ForgeRefused, ForgeUnauthorized, ForgeUnreachable
from provisioner.domain.forge import Conclusion, Reviews, Site, Target

from .forge_laws import How, told

BODY = "| metric | value |\n|---|---|\n| loss | 0.25 |\n\n<!-- hidden --> é 漢 🎉 `a & b` <b>\n"


class ReviewsWorld(Protocol):
    """Calls are named after the port's methods: comments, add, edit, drop, check."""

    credentials: tuple[str, ...]
    targets: tuple[Target, ...]
    sha: str

    def said(self, target: Target) -> list[str]:
        """All comments there, oldest first."""
        ...

    def say(self, target: Target, bodies: list[str]) -> None:
        """By somebody else, who is a person."""
        ...

    def checks(self) -> list[tuple[str, str, str]]:
        """(sha, name, conclusion or state), oldest first."""
        ...

    def trouble(self, call: str, how: How, *, skip: int = 0, times: int = 1) -> None: ...


class ReviewsLaws:
    async def test_w1_every_page_of_comments_oldest_first(
        self, forge: Reviews, site: Site, world: ReviewsWorld
    ) -> None:
        for target in world.targets:
            bodies = [f"number {number}" for number in range(250)]
            world.say(target, bodies)
            assert [comment.body for comment in await forge.comments(site, target)] == bodies, target

    async def test_w1_a_page_that_fails_is_never_a_short_list(
        self, forge: Reviews, site: Site, world: ReviewsWorld
    ) -> None:
        world.say(world.targets[0], [f"number {number}" for number in range(150)])
        world.trouble("comments", How.BEFORE, skip=1)
        with pytest.raises(ForgeUnreachable):
            await forge.comments(site, world.targets[0])

    async def test_w2_what_is_said_is_stored_as_it_was_given(
        self, forge: Reviews, site: Site, world: ReviewsWorld
    ) -> None:
        for target in world.targets:
            added = await forge.add(site, target, BODY)
            assert (added.body, world.said(target)) == (BODY, [BODY]), target
            assert added.url.startswith("http")
            edited = await forge.edit(site, target, added.id, BODY + "more")
            assert (edited.id, world.said(target)) == (added.id, [BODY + "more"]), target
            assert [comment.id for comment in await forge.comments(site, target)] == [added.id]

    async def test_w2_the_longest_is_kept_whole_and_more_is_refused(
        self, forge: Reviews, site: Site, world: ReviewsWorld
    ) -> None:
        target = world.targets[0]
        longest = "x" * forge.longest
        await forge.add(site, target, longest)
        with pytest.raises(ForgeRefused):
            await forge.add(site, target, longest + "x")
        assert world.said(target) == [longest]

    async def test_w2_a_check_has_its_conclusion(self, forge: Reviews, site: Site, world: ReviewsWorld) -> None:
        assert (await forge.check(site, world.sha, "gate", Conclusion.SUCCESS, "fine", "all of it")).startswith("http")
        await forge.check(site, world.sha, "gate", Conclusion.FAILURE, "not fine", BODY)
        assert [(sha, name) for sha, name, _ in world.checks()] == [(world.sha, "gate")] * 2
        assert [told[2][:4] for told in world.checks()] == ["succ", "fail"]

    async def test_w4_what_is_dropped_is_gone_and_may_be_dropped_again(
        self, forge: Reviews, site: Site, world: ReviewsWorld
    ) -> None:
        for target in world.targets:
            world.say(target, ["stays"])
            added = await forge.add(site, target, BODY)
            await forge.drop(site, target, added.id)
            await forge.drop(site, target, added.id)
            assert world.said(target) == ["stays"], target

    async def test_w5_what_somebody_else_wrote_is_not_mine(
        self, forge: Reviews, site: Site, world: ReviewsWorld
    ) -> None:
        for target in world.targets:
            world.say(target, [BODY])
            added = await forge.add(site, target, BODY)
            edited = await forge.edit(site, target, added.id, BODY + "more")
            assert (added.mine, edited.mine) == (True, True)
            assert [comment.mine for comment in await forge.comments(site, target)] == [False, True], target

    async def test_w3_only_our_errors_come_out_and_they_tell_no_credential(
        self, forge: Reviews, site: Site, world: ReviewsWorld
    ) -> None:
        target = world.targets[0]
        added = await forge.add(site, target, BODY)
        asks = {
            "comments": lambda: forge.comments(site, target),
            "add": lambda: forge.add(site, target, BODY),
            "edit": lambda: forge.edit(site, target, added.id, BODY),
            "drop": lambda: forge.drop(site, target, added.id),
            "check": lambda: forge.check(site, world.sha, "gate", Conclusion.NEUTRAL, "", ""),
        }
        for call, ask in asks.items():
            kinds: list[type[ForgeError]] = []
            for how in (How.BEFORE, How.CUT, How.DENIED):
                world.trouble(call, how)
                with pytest.raises(ForgeError) as caught:
                    await ask()
                kinds.append(type(caught.value))
                assert [secret for secret in world.credentials if secret in told(caught.value)] == []
            assert kinds == [ForgeUnreachable, ForgeUnreachable, ForgeUnauthorized], call
