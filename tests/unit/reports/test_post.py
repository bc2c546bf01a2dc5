"""One comment a title, however long the thread and whoever posts at the same time."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.domain.errors import ForgeUnauthorized
from provisioner.domain.forge import ForgeKind, Site, Target
from provisioner.reports.post import mark, marked, upsert
from tests.fakes.reviews import FakeReviews

from .parsed import parse

SITE, PR = Site(ForgeKind("github"), "https://forge.example", "team/model"), Target("pr", "42")


def ours(reviews: FakeReviews, key: str = "Report") -> list[str]:
    return [one.body for one in reviews.said if one.body.startswith(mark(key))]


async def test_it_is_created_once_and_brought_up_to_date_after() -> None:
    reviews = FakeReviews()
    reviews.say(*(f"comment {number}" for number in range(250)))
    first = await upsert(reviews, SITE, PR, "Report", "one")
    second = await upsert(reviews, SITE, PR, "Report", "two")
    assert first.id == second.id
    assert ours(reviews) == [marked("Report", "two")]
    assert len(reviews.said) == 251


async def test_what_says_the_same_is_left_alone() -> None:
    reviews = FakeReviews()
    await upsert(reviews, SITE, PR, "Report", "one")
    reviews.calls.clear()
    await upsert(reviews, SITE, PR, "Report", "one")
    assert reviews.calls == ["comments"]


async def test_titles_are_comments_of_their_own() -> None:
    reviews = FakeReviews()
    for key in ("Report", "Report of nightly", "report"):
        await upsert(reviews, SITE, PR, key, key)
    assert len(reviews.said) == 3
    assert ours(reviews, "Report") == [marked("Report", "Report")]


async def test_a_quotation_is_not_the_comment() -> None:
    reviews = FakeReviews()
    reviews.say("> " + marked("Report", "old"), f"look:\n{mark('Report')}")
    await upsert(reviews, SITE, PR, "Report", "new")
    assert len(reviews.said) == 3


async def test_the_oldest_of_several_is_the_one() -> None:
    reviews = FakeReviews()
    reviews.say(marked("Report", "a"), marked("Report", "b"))
    assert (await upsert(reviews, SITE, PR, "Report", "c")).id == "1"
    assert [one.body for one in reviews.said] == [marked("Report", "c"), marked("Report", "b")]


@pytest.mark.parametrize("guarded", [True, False], ids=["theirs alone", "ours to edit as well"])
async def test_somebody_elses_comment_with_our_mark_is_in_nobodys_way(guarded: bool) -> None:
    reviews = FakeReviews(not_ours={"1"}, guarded=guarded)
    reviews.say(marked("Report", "mine!"))
    for text in ("a", "b"):
        await upsert(reviews, SITE, PR, "Report", text)
    assert [one.body for one in reviews.said] == [marked("Report", "mine!"), marked("Report", "b")]


@pytest.mark.parametrize("runners", [2, 5])
async def test_those_who_post_at_the_same_time_make_one(runners: int) -> None:
    """All of them have looked and found nothing before the first adds."""
    waiting = asyncio.Barrier(runners)

    async def all_here() -> None:
        await waiting.wait()

    reviews = FakeReviews(before_add=all_here)
    reviews.say("hello")
    told = await asyncio.gather(*(upsert(reviews, SITE, PR, "Report", f"run {n}") for n in range(runners)))
    assert len(ours(reviews)) == 1
    assert {one.id for one in told} == {reviews.said[1].id}
    assert reviews.calls.count("drop") == runners - 1


async def test_without_any_right_the_refusal_comes_out() -> None:
    async def refused() -> None:
        raise ForgeUnauthorized("read only")

    with pytest.raises(ForgeUnauthorized):
        await upsert(FakeReviews(before_add=refused), SITE, PR, "Report", "x")


@given(st.text(max_size=200))
def test_no_title_shows_or_ends_the_mark(key: str) -> None:
    body = marked(key, "text")
    assert body.count("-->") == 1
    assert mark(key).count("--") == 2
    found = parse(body)
    assert (len(found.html), found.text, found.foreign_html) == (1, "text\n", [])
