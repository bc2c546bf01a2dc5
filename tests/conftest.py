"""Options of all tests: what costs money is asked for by name."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("live", "a machine rented for real (docs/how-to/live-tests.md)")
    group.addoption("--live", action="store_true", help="Rent one cheap machine and pay for it.")
    group.addoption("--live-url", default="", help="https://HOST:PORT where machines reach this computer.")
    group.addoption("--live-budget", type=float, default=0.25, help="USD that the machine may cost at the very most.")
    group.addoption("--live-region", default="us-east-1", help="Where to rent.")
    group.addoption("--live-profile", default="", help="The controller's AWS profile; else the test's own credentials.")
