"""One error class for each decision that a caller takes.

Every message says what was wrong, what was kept, and what to do next. `RequestError`s reach the user as they are;
the others are met by the engine, which knows one thing to do about each.
"""

from __future__ import annotations


def line_of(message: str, hint: str) -> str:
    """What was wrong and what to do, on one line."""
    return f"{message}{' ' if message.endswith('?') else '; '}{hint}" if hint else message


class RunnerError(Exception):
    """Everything of ours. `hint` says what to do next; it may be empty."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def line(self) -> str:
        """All of it on one line."""
        return line_of(self.message, self.hint)


class RequestError(RunnerError):
    """The request cannot be served as it stands; asking again in the same words will not help."""


class InvalidRequest(RequestError):
    """Malformed or unknown: exit code 2."""


class NotFound(RequestError):
    """No such thing, or none that the caller may see: exit code 2."""


class Conflict(RequestError):
    """The thing is in a state that forbids this: exit code 3."""


class OverBudget(RequestError):
    """A cap on money or machines forbids this: exit code 3."""


class Impossible(RequestError):
    """No known offer could ever satisfy this: exit code 3."""


class Forbidden(RequestError):
    """The caller is known but may not: exit code 3."""


class Unauthenticated(RequestError):
    """The caller is not known: wrong or missing token, exit code 3."""


class ProviderError(RunnerError):
    """A cloud said no, or said nothing. `scope` names what the refusal covers, narrowest first."""

    def __init__(self, message: str, *, hint: str = "", scope: str = "", cooldown_s: float = 180.0) -> None:
        super().__init__(message, hint=hint)
        self.scope = scope
        self.cooldown_s = cooldown_s


class NoCapacity(ProviderError):
    """Take the next offer and remember this one for a while."""


class QuotaExceeded(ProviderError):
    """Skip that region and say so."""


class Rejected(ProviderError):
    """The request itself is refused: fail the job with the cloud's own words."""


class Unauthorized(ProviderError):
    """Pause the provider's creates; deletes go on trying."""


class Throttled(ProviderError):
    """The same action later; never read as lack of capacity."""


class Unreachable(ProviderError):
    """No answer: the effect may or may not have happened. The same action later, under the same name."""


class BootstrapError(RunnerError):
    """The machine came up but the agent did not. `console` is the tail of what the machine printed."""

    def __init__(self, message: str, *, hint: str = "", console: str = "") -> None:
        super().__init__(message, hint=hint)
        self.console = console


class NoAnswer(BootstrapError):
    """Nothing listens there, or the line broke: try again."""


class HostKeyMismatch(BootstrapError):
    """Something else answers at that address. Never spoken to; people are told."""


class LoginRefused(BootstrapError):
    """It is the right host, and it does not let us in."""


class ScriptFailed(BootstrapError):
    """What had to run there before the agent did not succeed."""


class ForgeError(RunnerError):
    """A forge said no, or said nothing."""


class ForgeRefused(ForgeError):
    """The request itself is refused: fail the job with the forge's own words."""


class ForgeUnauthorized(ForgeError):
    """Our rights there are not enough, or over: creates stop, removals go on trying."""


class ForgeThrottled(ForgeError):
    """It asks for patience: the same action after `retry_after_s` seconds, and no other before."""

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float = 60.0) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class ForgeUnreachable(ForgeError):
    """No clear answer: the effect may or may not have happened. The same action later."""


class RunnerBusy(ForgeError):
    """The runner has a job: it is left alone."""


class StillRunning(ForgeError):
    """The run has not ended: ask again when it has."""


class ObjectsError(RunnerError):
    """The object store failed. `missing` tells an absent object from a failing store, `denied` one that says no."""

    def __init__(self, message: str, *, hint: str = "", missing: bool = False, denied: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.missing = missing
        self.denied = denied


class StoreError(RunnerError):
    """The database cannot be used as it is: newer than the code, locked by another, or broken."""


class StaleWrite(RunnerError):
    """Somebody else wrote first: reload and decide again. No user sees this."""


class IllegalTransition(RunnerError):
    """A bug: that item stops loudly, the others go on."""
