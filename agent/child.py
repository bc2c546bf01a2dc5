"""Asking a program that may hang: a broken driver can hold whoever calls into it for ever, even against a kill."""

from __future__ import annotations

import contextlib
import subprocess
from typing import Any

_DYING_S = 1.0  # arbitrary: what is stuck in the kernel is left behind after that


def answer(words: list[str], timeout_s: float, **how: Any) -> tuple[int, str]:
    """Its exit code and what it printed, of standard error only what it said before it failed without another word.
    `how` is Popen's. Raises: OSError, SubprocessError, TimeoutError."""
    child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how)
    try:
        out, err = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        child.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_DYING_S)
        for end in (child.stdout, child.stderr):
            if end is not None:
                end.close()
        raise TimeoutError(f"no answer within {timeout_s:g} s") from error
    text = out.decode("utf-8", "replace").strip()
    if child.returncode and not text:
        text = err.decode("utf-8", "replace").strip()
    return child.returncode, text
