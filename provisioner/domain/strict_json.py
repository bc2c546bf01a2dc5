"""JSON from outside, without what JSON allows and nothing here can hold: numbers of more than 64 bits, half characters.

Whoever decodes a body does it here, so that what comes behind it can store and send what it was given.
"""

from __future__ import annotations

import json
import re
from typing import Any

_MOST_DIGITS = 20  # with a sign, of a number of 64 bits
_LARGEST = 2**63
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


class NotJson(ValueError):
    """Its message says what is wrong, in words for who sent it."""


def loads(body: bytes) -> Any:
    """The value. Raises: NotJson."""
    try:
        text = body.decode()
        value = json.loads(text, parse_int=_int)
    except UnicodeDecodeError as error:
        raise NotJson("not text in UTF-8") from error
    except json.JSONDecodeError as error:
        raise NotJson(f"not JSON (line {error.lineno}, column {error.colno})") from error
    except RecursionError as error:
        raise NotJson("nested too deeply") from error
    if _HALF.search(text):
        _check_whole(value)
    return value


def _int(digits: str) -> int:
    if len(digits) <= _MOST_DIGITS and -_LARGEST <= (number := int(digits)) < _LARGEST:
        return number
    raise NotJson(f"{digits[:12]}... is a number of more than 64 bits")


def _check_whole(value: Any) -> None:
    """Escapes of one character come in pairs."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            left += [*one, *one.values()]
        elif isinstance(one, list):
            left += one
        elif isinstance(one, str) and not one.isascii():
            try:
                one.encode()
            except UnicodeEncodeError as error:
                raise NotJson("half a character (a lone surrogate) is in its text") from error
