"""A CI job's token is believed when its own issuer signed it, for us and for now, and never otherwise."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from provisioner.domain.errors import ForgeUnreachable, Unauthenticated
from provisioner.forges.oidc import Issuers
from tests.fakes.hand_clock import HandClock
from tests.fakes.issuer import Issuer

US = "https://runner.example"


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as made:
        yield made


@pytest.fixture
async def issuers(issuer: Issuer, clock: HandClock) -> AsyncIterator[Issuers]:
    made = Issuers({issuer.url}, clock)
    yield made
    await made.close()


def claims(issuer: Issuer, clock: HandClock, **more: Any) -> dict[str, Any]:
    now = int(clock.now().timestamp())
    said = {"iss": issuer.url, "aud": US, "sub": "repo:acme/vision", "iat": now, "nbf": now, "exp": now + 300}
    return {key: value for key, value in (said | more).items() if value is not None}


async def refused(issuers: Issuers, token: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await issuers.claims(token, {US})
    assert "\n" not in caught.value.line
    return caught.value.message


async def test_a_genuine_one_is_believed(issuers: Issuers, issuer: Issuer, clock: HandClock) -> None:
    told = await issuers.claims(issuer.token(claims(issuer, clock, repository="acme/vision")), {US})
    assert told["repository"] == "acme/vision"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"exp": -61}, "this token has expired"),
        ({"exp": None}, 'this token is not valid: Token is missing the "exp" claim'),
        ({"exp": float("inf")}, "this token's exp is no time"),
        ({"nbf": 120}, "this token is not valid yet"),
        ({"iat": 120, "exp": 500}, "this token is not valid yet"),
        ({"exp": 90_000}, "this token is good for longer than a CI job's"),
        ({"aud": "https://another.example"}, "this token is made out to somebody else"),
        ({"aud": None}, 'this token is not valid: Token is missing the "aud" claim'),
    ],
)
async def test_one_that_is_not_for_us_or_not_for_now(
    issuers: Issuers, issuer: Issuer, clock: HandClock, more: dict[str, Any], said: str
) -> None:
    now = int(clock.now().timestamp())
    at = {
        key: now + value if key in ("exp", "nbf", "iat") and value is not None else value for key, value in more.items()
    }
    assert await refused(issuers, issuer.token(claims(issuer, clock, **at))) == said


async def test_clocks_may_differ_by_a_minute(issuers: Issuers, issuer: Issuer, clock: HandClock) -> None:
    now = int(clock.now().timestamp())
    for more in ({"exp": now - 50}, {"nbf": now + 50, "iat": now + 50}):
        assert (await issuers.claims(issuer.token(claims(issuer, clock, **more)), {US}))["aud"] == US


async def test_one_that_nobody_signed(issuers: Issuers, issuer: Issuer, clock: HandClock) -> None:
    assert (
        await refused(issuers, issuer.unsigned(claims(issuer, clock)))
        == "a token that is signed by 'none' is not taken"
    )


async def test_one_that_is_sealed_with_the_public_key(issuers: Issuers, issuer: Issuer, clock: HandClock) -> None:
    assert (
        await refused(issuers, issuer.confused(claims(issuer, clock)))
        == "a token that is signed by 'HS256' is not taken"
    )


async def test_one_of_somebody_elses_key_under_the_issuers_name_for_it(
    issuers: Issuers, issuer: Issuer, clock: HandClock
) -> None:
    forged = issuer.token(claims(issuer, clock), key_id="of-another", kid="key-1")
    assert await refused(issuers, forged) == "the signature of this token is not its issuer's"


async def test_one_whose_claims_were_changed(issuers: Issuers, issuer: Issuer, clock: HandClock) -> None:
    head, _, seal = issuer.token(claims(issuer, clock)).split(".")
    _, body, _ = issuer.token(claims(issuer, clock, repository="other/one")).split(".")
    assert await refused(issuers, f"{head}.{body}.{seal}") == "the signature of this token is not its issuer's"


async def test_an_issuer_that_nobody_trusts_is_not_even_asked(
    issuers: Issuers, issuer: Issuer, clock: HandClock
) -> None:
    with Issuer() as other:
        token = other.token(claims(other, clock))
        assert await refused(issuers, token) == f"tokens of {other.url!r} are not taken here"
        assert other.asked == issuer.asked == []


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "rt_a-token-of-ours", "e30.e30.", "e30.bnVsbA."])
async def test_what_is_no_token(issuers: Issuers, text: str) -> None:
    assert await refused(issuers, text) in ("this is no token of a CI job", "tokens of 'None' are not taken here")


async def test_keys_are_fetched_once_an_hour(issuers: Issuers, issuer: Issuer, clock: HandClock) -> None:
    for _ in range(3):
        await issuers.claims(issuer.token(claims(issuer, clock)), {US})
    assert issuer.asked.count("/jwks") == 1
    await clock.sleep(3700)
    await issuers.claims(issuer.token(claims(issuer, clock)), {US})
    assert issuer.asked.count("/jwks") == 2


async def test_a_new_key_is_found_when_a_token_names_it(issuers: Issuers, issuer: Issuer, clock: HandClock) -> None:
    await issuers.claims(issuer.token(claims(issuer, clock)), {US})
    issuer.keys = ["key-2", "key-1"]
    await clock.sleep(31)
    await issuers.claims(issuer.token(claims(issuer, clock)), {US})
    assert issuer.asked.count("/jwks") == 2


async def test_unknown_keys_do_not_make_us_ask_again_and_again(
    issuers: Issuers, issuer: Issuer, clock: HandClock
) -> None:
    for number in range(5):
        token = issuer.token(claims(issuer, clock), kid=f"unknown-{number}")
        assert await refused(issuers, token) == f"{issuer.url} has no key 'unknown-{number}'"
    assert issuer.asked.count("/jwks") == 1


async def test_a_key_that_was_withdrawn_is_not_believed_for_longer_than_an_hour(
    issuers: Issuers, issuer: Issuer, clock: HandClock
) -> None:
    await issuers.claims(issuer.token(claims(issuer, clock)), {US})
    issuer.keys = ["key-2"]
    await clock.sleep(3700)
    token = issuer.token(claims(issuer, clock), key_id="key-1")
    assert await refused(issuers, token) == f"{issuer.url} has no key 'key-1'"


async def test_an_issuer_that_is_down_is_no_refusal_and_lets_nobody_in(
    issuers: Issuers, issuer: Issuer, clock: HandClock
) -> None:
    issuer.down = True
    for _ in range(2):
        with pytest.raises(ForgeUnreachable):
            await issuers.claims(issuer.token(claims(issuer, clock)), {US})
    assert len(issuer.asked) == 1


async def test_what_says_that_it_is_another_issuer_is_not_believed(
    issuers: Issuers, issuer: Issuer, clock: HandClock
) -> None:
    issuer.says_it_is = "https://elsewhere.example"
    with pytest.raises(ForgeUnreachable, match="another issuer"):
        await issuers.claims(issuer.token(claims(issuer, clock)), {US})
