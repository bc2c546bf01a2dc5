"""The help that is printed without importing anything says what the commands are."""

from __future__ import annotations

from provisioner.cli import help_page


def test_the_kept_help_is_what_the_commands_say() -> None:
    assert help_page.KEPT.read_text() == help_page.text()
