"""What was stored is printed, and never obeyed by the terminal."""

from __future__ import annotations

import pytest

from provisioner.cli import render

_CLEAR = "\x1b[2J\x07\u202egnp.exe\x9b31m\ud800"
_WRITTEN = r"\x1b[2J\x07\u202egnp.exe\x9b31m\ud800"


def test_cells_hold_no_controls_and_no_lines_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    render.table(("NAME", "STATE"), [(f"{_CLEAR}\n\tjob", None), ("ü", render.Coloured("failed", "31"))])
    assert capsys.readouterr().out.splitlines() == [
        f"NAME{' ' * 42}STATE",
        rf"{_WRITTEN}\n\tjob",
        f"ü{' ' * 45}\x1b[31mfailed\x1b[0m",
    ]


def test_lines_hold_no_controls(capsys: pytest.CaptureFixture[str]) -> None:
    render.line(f"name {_CLEAR}\nnext")
    render.say(_CLEAR)
    assert capsys.readouterr() == (f"name {_WRITTEN}\nnext\n", f"{_WRITTEN}\n")
