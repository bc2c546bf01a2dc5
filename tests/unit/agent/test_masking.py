"""Masking a stream in pieces equals masking it whole, wherever the pieces are cut."""

from __future__ import annotations

import base64
import itertools
import json
import re

from hypothesis import given
from hypothesis import strategies as st

from agent.masking import MASK, Masker, patterns
from agent.serving import parts_of

LETTERS = st.text(alphabet="abc", min_size=6, max_size=12)


def in_pieces(values: list[str], data: bytes, cuts: list[int]) -> bytes:
    masker = Masker(patterns(values))
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    fed = [masker.feed(data[a:b]) for a, b in itertools.pairwise(edges)]
    return b"".join(fed) + masker.flush()


@given(st.lists(LETTERS, min_size=1, max_size=3), st.text(alphabet="abc", max_size=200), st.lists(st.integers(0, 999)))
def test_pieces_are_masked_as_the_whole(values: list[str], text: str, cuts: list[int]) -> None:
    whole = re.sub(b"|".join(map(re.escape, patterns(values))), MASK, text.encode())
    assert in_pieces(values, text.encode(), cuts) == whole


@given(st.integers(0, 40))
def test_no_cut_lets_a_secret_through(cut: int) -> None:
    assert in_pieces(["correct-horse"], b"say correct-horse and correct-hors", [cut]) == b"say *** and correct-hors"


def test_a_secrets_usual_disguises_are_masked_too() -> None:
    value = "p@ss/word one"
    for form in (base64.b64encode(value.encode()), b"p%40ss%2Fword%20one"):
        assert in_pieces([value], b"x" + form + b"y", []) == b"x***y"


def test_each_line_of_a_key_is_masked() -> None:
    assert in_pieces(["-----BEGIN\nabcdefgh\n-----END"], b"got abcdefgh here", []) == b"got *** here"


def test_without_secrets_nothing_is_held_back() -> None:
    assert Masker([]).feed(b"abc") == b"abc"


def test_what_is_secret_within_a_jit_configuration_is_masked_too() -> None:
    def packed(value: object) -> str:
        return base64.b64encode(json.dumps(value).encode()).decode()

    files = {
        ".runner": packed({"agentName": "runner-i1", "serverUrl": "https://forge.example/acme"}),
        ".credentials": packed(
            {"scheme": "OAuth", "data": {"clientId": "1111-2222", "authorizationUrl": "https://a.b"}}
        ),
        ".credentials_rsaparams": packed(
            {"exponent": "AQAB", "modulus": "m" * 40, "d": "private-part", "p": "prime-one"}
        ),
    }
    jit = packed(files)
    hidden = [
        files[".credentials"],
        "1111-2222",
        files[".credentials_rsaparams"],
        "m" * 40,
        "private-part",
        "prime-one",
    ]
    assert parts_of(jit) == [jit, *hidden]
    for token in ("glrt-not-base64-at-all", base64.b64encode(b"[1, 2]").decode()):
        assert parts_of(token) == [token]
