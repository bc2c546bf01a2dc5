"""Launches on EC2, by a real controller's process against the fast EC2 (tests/fakes/fastec2.py), which throttles as AWS
publishes and holds the controller to the shipped IAM policy.

Two figures: how long after a job is sent to a warm controller its RunInstances arrives, and how long 200 jobs sent at
once take until the last of theirs has arrived, beside what EC2's own bucket for that call allows.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from provisioner.cli.client import Client
from provisioner.domain.ids import new_id
from tests.fakes.fastec2 import FastCloud, fast_cloud
from tests.fakes.ports import free_port
from tests.system.served import served

from .home import WithExtras, installed
from .measure import say

TIMES = 15
BURST = int(os.environ.get("BENCH_LAUNCHES", "200"))
_AT_ONCE, _A_SECOND = 5, 2.0  # source: Amazon EC2 developer guide, "Request throttling for the Amazon EC2 API"
_APART_S = 1.2  # arbitrary: more than a launch's token takes to come back
_SETTINGS = """
public_url: https://127.0.0.1:{port}
max_instances: 10000
max_usd_per_hour: 100000
aws: {{enabled: true, regions: [us-east-1], image: {image}}}
"""


def main() -> None:
    with fast_cloud() as cloud:
        with _controller(cloud) as client:
            _warm_up(client, cloud)
            took_ms = sorted(_one_ms(client, cloud) for _ in range(TIMES))
            shown = f"{statistics.median(took_ms):.0f} ms ({took_ms[0]:.0f} to {took_ms[-1]:.0f})"
            say("job sent to RunInstances, warm controller", shown, "150 ms")
        with _controller(cloud) as client:
            _warm_up(client, cloud)
            say(f"{BURST} jobs at once, the last RunInstances", _burst(client, cloud), "+ 2 s, none throttled or lost")


@contextlib.contextmanager
def _controller(cloud: FastCloud) -> Iterator[Client]:
    """In a home of its own; the machines' agents never call home."""
    port = free_port()
    settings = _SETTINGS.format(port=port, image=cloud.regions["us-east-1"].images["x86_64"])
    with installed(settings, WithExtras) as home:
        home.extra = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        with served(home, "--tls", "auto", port=port):
            yield Client(f"unix:{home.home / 'control.sock'}")


def _warm_up(client: Client, cloud: FastCloud) -> None:
    """What is looked up once (image, network, group) is known after the first launch; its tokens are back then."""
    before = len(cloud.asked("RunInstances"))
    _send(client)
    _until(lambda: len(cloud.asked("RunInstances")) > before)
    time.sleep(3 * _APART_S)


def _send(client: Client) -> None:
    need = {"gpu": {"name": "T4"}, "providers": ["aws"]}
    job = new_id(
        "j", datetime.now(UTC), lambda bits: int.from_bytes(os.urandom(bits // 8 + 1)) >> 1 & ((1 << bits) - 1)
    )
    client.post("/jobs", {"id": job, "spec": {"run": "true", "need": need}})


def _one_ms(client: Client, cloud: FastCloud) -> float:
    time.sleep(_APART_S)
    before = len(cloud.asked("RunInstances"))
    began_s = time.monotonic()
    _send(client)
    _until(lambda: len(cloud.asked("RunInstances")) > before)
    return (_arrivals(cloud)[before] - began_s) * 1e3


def _burst(client: Client, cloud: FastCloud) -> str:
    assert cloud.limits is not None
    before, throttled = len(cloud.asked("RunInstances")), cloud.limits.refused
    machines = len(cloud.machines().by_id)
    time.sleep(3 * _APART_S)
    began_s = time.monotonic()
    for _ in range(BURST):
        _send(client)
    sent_s = time.monotonic() - began_s
    _until(lambda: len(cloud.machines().by_id) - machines >= BURST, 600.0)
    arrivals = _arrivals(cloud)[before:]
    took_s, least_s = arrivals[-1] - began_s, (BURST - _AT_ONCE) / _A_SECOND
    lost = BURST - (len(cloud.machines().by_id) - machines)
    calls = f"{len(arrivals)} calls, {cloud.limits.refused - throttled} throttled, {lost} lost, sent in {sent_s:.1f} s"
    return f"{took_s:.1f} s, {took_s - least_s:.1f} s more than the bucket's own {least_s:.1f} s; {calls}"


def _arrivals(cloud: FastCloud) -> list[float]:
    return [at_s for action, _, _, at_s in list(cloud.calls) if action == "RunInstances"]


def _until(found: Callable[[], Any], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not found():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.005)


if __name__ == "__main__":
    main()
