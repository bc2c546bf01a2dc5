"""A client of forges that waits long, and only where a test makes the forge silent not for long."""

from __future__ import annotations

from provisioner.forges.line import Line

LONG_S = 20.0
SHORT_S = 0.6


class PatientLine(Line):
    def __init__(self) -> None:
        super().__init__(LONG_S)

    def expect(self, how: str) -> None:
        """What is to become of the next call decides how long it is waited for."""
        self._timeout_s = SHORT_S if how == "silent" else LONG_S
