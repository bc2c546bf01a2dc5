"""The end of a console: short, safe to print, and without a secret."""

from __future__ import annotations

import pytest

from provisioner.domain.console import tail

TOKEN = "jt_" + "0123456789abcdef" * 4


def test_the_last_forty_lines_are_kept() -> None:
    lines = tail("".join(f"line {n}\n" for n in range(100)))
    assert lines == [f"line {n}" for n in range(60, 100)]


def test_four_kib_are_kept_and_of_one_long_line_its_end() -> None:
    lines = tail("\n".join(["x" * 999] * 30))
    assert [len(line) for line in lines] == [999] * 4
    assert tail("a" * 9000 + "end") == ["a" * 4093 + "end"]


@pytest.mark.parametrize(
    ("printed", "kept"),
    [
        ("\x1b[1;31mFAILED\x1b[0m to start", "FAILED to start"),
        ("\x1b]0;a title\x07hello", "hello"),
        ("bell\x07 and \x9b31m", "bell? and ?31m"),
        ("tab\there", "tab here"),
        ("turned \u202eround, zero\u200bwidth", "turned ?round, zero?width"),
        ("10 %\r50 %\rdone\r\n", "10 %|50 %|done"),
        ("Zürich 漢字", "Zürich 漢字"),
        ("  \n\n\t\n", ""),
    ],
)
def test_nothing_that_a_terminal_acts_upon_is_left(printed: str, kept: str) -> None:
    assert "|".join(tail(printed)) == kept


@pytest.mark.parametrize(
    "secret",
    [TOKEN, "rs_" + "ab" * 32, "rt_" + "A-z_9" * 9, f'\\n"{TOKEN}"', "\x1b[1m" + TOKEN[:9] + "\x1b[0m" + TOKEN[9:]],
)
def test_tokens_are_masked(secret: str) -> None:
    (line,) = tail(f"join_token={secret} next")
    assert line.startswith("join_token=")
    assert line.endswith(" next")
    assert "[masked]" in line
    assert "0123456789" not in line


def test_a_private_key_is_masked_though_its_end_is_not_there() -> None:
    text = "before\n-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n"
    assert tail(text) == ["before", "[masked]"]
    assert tail(f"{text}-----END OPENSSH PRIVATE KEY-----\nafter") == ["before", "[masked]", "after"]


def test_no_half_of_a_secret_is_left_where_it_is_cut() -> None:
    assert tail("x" * 10 + TOKEN + "y" * 4060) == ["x" * 10 + "[masked]" + "y" * 4060]
