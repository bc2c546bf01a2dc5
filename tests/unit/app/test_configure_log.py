"""The controller's own log goes to stderr, and nothing depends on its getting there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import structlog
from provisioner.app.configure_log import configure
configure()
log = structlog.get_logger()
try:
    raise ValueError("broken")
except ValueError as error:
    for number in range(3):
        log.error("loop.crashed", number=number, exc_info=True)
print("went on")
"""


def test_each_line_is_an_object() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["event"], line["level"], line["number"]) for line in lines] == [
        ("loop.crashed", "error", number) for number in range(3)
    ]
    assert "ValueError: broken" in lines[0]["exception"]


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    """A full disk; a pipe that nobody reads any more."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=full, check=True)
        assert done.stdout == b"went on\n"
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stderr is not None
        assert running.stdout is not None
        running.stderr.close()
        assert running.stdout.read() == b"went on\n"
