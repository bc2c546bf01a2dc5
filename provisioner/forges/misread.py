"""Why a webhook was not understood, in words for who set it up."""

from __future__ import annotations

from provisioner.domain.strict_json import NotJson

SURPRISES = (ValueError, KeyError, TypeError, AttributeError)


def why(error: Exception) -> str:
    """Of one of `SURPRISES`, which reading the body ran into."""
    match error:
        case NotJson():
            return str(error)
        case KeyError(args=(str() as missing,)):
            return f"{missing} is missing"
    return "a field is not what it should be"


def text(value: object) -> str:
    """Raises: TypeError for anything else."""
    if not isinstance(value, str):
        raise TypeError("not text")
    return value
