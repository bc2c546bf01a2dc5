"""What goes wrong, as one line and an exit code. Source of the codes: product page, "Exit codes"."""

from __future__ import annotations

from provisioner.domain.errors import line_of

USAGE, REFUSED, UNREACHABLE, OURS = 2, 3, 4, 125
_A_GATEWAYS = (502, 503, 504)
_OF_KIND = {"InvalidRequest": USAGE, "NotFound": USAGE}


class CliError(Exception):
    """`line` is what the user reads."""

    def __init__(self, message: str, hint: str = "", code: int = USAGE) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code

    @property
    def line(self) -> str:
        return line_of(self.message, self.hint)


class Unreachable(CliError):
    """Nobody answers, or an answer was lost."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint, UNREACHABLE)


def from_answer(status: int, body: object) -> CliError:
    """The controller's refusal; Unreachable where a gateway before it could not ask it."""
    error = body.get("error", {}) if isinstance(body, dict) else {}
    if not error and status in _A_GATEWAYS:
        return Unreachable(f"a gateway before the controller answered {status}", "look at RUNNER_SERVER")
    kind = error.get("kind", "")
    default = UNREACHABLE if status in _A_GATEWAYS else REFUSED
    return CliError(
        error.get("message") or f"the controller answered {status}", error.get("hint", ""), _OF_KIND.get(kind, default)
    )
