"""Masking piece by piece is masking the whole, wherever the pieces are cut."""

from __future__ import annotations

import base64
import re
import urllib.parse

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.masking import MASK, Masker, patterns


def whole(forms: list[bytes], data: bytes) -> bytes:
    return re.sub(b"|".join(map(re.escape, forms)), MASK, data) if forms else data


def pieces(forms: list[bytes], parts: list[bytes]) -> bytes:
    masker = Masker(forms)
    return b"".join([*(masker.feed(part) for part in parts), masker.flush()])


# Few letters, so that secrets overlap themselves, one another and what is around them.
letters = st.text("ab\n", min_size=6, max_size=12)
scraps = st.text("ab\n-", max_size=9)


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_any_chunking_gives_what_masking_the_whole_gives(data: st.DataObject) -> None:
    secrets = data.draw(st.lists(letters, min_size=1, max_size=4))
    forms = patterns(secrets)
    words = data.draw(st.lists(st.sampled_from([form.decode() for form in forms]) | scraps, max_size=12))
    text = "".join(words).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert pieces(forms, parts) == whole(forms, text)
    assert pieces(forms, [bytes([byte]) for byte in text]) == whole(forms, text)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(min_size=6, max_size=80), max_size=3), st.lists(st.binary(max_size=50), max_size=8))
def test_no_form_of_any_secret_is_left(secrets: list[str], noise: list[bytes]) -> None:
    forms = patterns(secrets)
    text = b"".join(part + form for part, form in zip(noise * 20, forms, strict=False))
    masked = pieces(forms, [text[i : i + 3] for i in range(0, len(text), 3)])
    assert masked == whole(forms, text)


@pytest.mark.parametrize("length", range(1, 20))
def test_nothing_that_could_be_a_secret_is_given_away_before_it_is_decided(length: int) -> None:
    masker = Masker(patterns(["correct-horse-battery"]))
    assert masker.feed(b"ab " + b"correct-horse-battery"[:length]) == b"ab "
    assert masker.feed(b"correct-horse-battery"[length:] + b"!") == b"***!"


def test_a_held_beginning_that_stays_one_is_given_at_the_end() -> None:
    masker = Masker(patterns(["correct-horse-battery"]))
    assert (masker.feed(b"correct-hor"), masker.flush(), masker.flush()) == (b"", b"correct-hor", b"")


@pytest.mark.parametrize(
    "shown",
    [
        lambda value: value,
        lambda value: base64.b64encode(value.encode()).decode(),
        lambda value: base64.b64encode(value.encode() + b"\n").decode(),
        lambda value: base64.urlsafe_b64encode(value.encode()).decode().rstrip("="),
        lambda value: urllib.parse.quote(value),
        lambda value: urllib.parse.quote(value, safe=""),
        lambda value: urllib.parse.quote_plus(value),
    ],
)
@pytest.mark.parametrize("value", ["pass word/?+x", "tökén-with-ümlauts", "plain-one"])
def test_each_form_is_masked(value: str, shown: object) -> None:
    assert pieces(patterns([value]), [b"<", shown(value).encode(), b">"]) == b"<***>"  # type: ignore[operator]


def test_each_line_of_a_long_one_is_masked_also_through_base64_and_a_terminal() -> None:
    key = "-----BEGIN KEY-----\n" + "\n".join(f"{i:064x}" for i in range(9, 14)) + "\n-----END KEY-----\n"
    forms = patterns([key])
    seen = key.replace("\n", "\r\n").encode() + base64.encodebytes(key.encode())
    left = pieces(forms, [seen[i : i + 7] for i in range(0, len(seen), 7)])
    assert left.replace(b"***", b"").split() == []


def test_what_is_short_is_not_masked() -> None:
    assert patterns(["ab\n"]) == []
    assert pieces(patterns(["ab\nlong-enough"]), [b"ab long-enough"]) == b"ab ***"
