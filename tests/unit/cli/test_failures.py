"""What an answer that is an error means."""

from __future__ import annotations

import pytest

from provisioner.cli.failures import REFUSED, UNREACHABLE, Unreachable, from_answer

OURS = {"error": {"kind": "StoreError", "message": "the database is away", "hint": ""}}


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_gateway_that_cannot_ask_the_controller_is_waited_for_like_the_controller(status: int) -> None:
    error = from_answer(status, None)
    assert isinstance(error, Unreachable)
    assert error.message == f"a gateway before the controller answered {status}"


def test_what_the_controller_says_itself_is_its_answer() -> None:
    said = from_answer(503, OURS)
    assert (type(said).__name__, said.message, said.code) == ("CliError", "the database is away", UNREACHABLE)
    assert from_answer(403, None).code == REFUSED
