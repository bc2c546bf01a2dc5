"""The way to the controller: other URLs, old connections, waits that are ended early, and answers that say no."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import http1, wire
from agent.link import Backoff, Interrupted, Link, Refused, Unreachable
from tests.fakes.controller import Controller, Fault, serving

SYNC = "/agent/v1/sync"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Controller, list[str]]]:
    controller = Controller()
    with serving(controller, tmp_path / "c.sock") as urls:
        yield controller, urls


def _joined(urls: list[str]) -> Link:
    link = Link(urls)
    link.session = link.call("/agent/v1/join", wire.Join("i", "join-token", "n" * 32), wire.Joined).session
    return link


@pytest.mark.parametrize("which", [0, 1])
def test_unix_and_tcp(served: tuple[Controller, list[str]], which: int) -> None:
    link = _joined(served[1][which : which + 1])
    assert link.call(SYNC, wire.Sync("b"), wire.Ought).version == 1


def test_the_next_url_is_tried(served: tuple[Controller, list[str]], tmp_path: Path) -> None:
    link = _joined([f"unix:{tmp_path}/nobody", *served[1]])
    assert link.call(SYNC, wire.Sync("b"), wire.Ought).version == 1


def test_a_kept_connection_that_was_closed_is_replaced(served: tuple[Controller, list[str]]) -> None:
    controller, urls = served
    link = _joined(urls[:1])
    controller.faults.append(Fault(SYNC, lose=True))
    assert link.call(SYNC, wire.Sync("b"), wire.Ought).version == 1
    assert len(controller.syncs) == 2


def test_no_and_not_now_are_told_apart(served: tuple[Controller, list[str]]) -> None:
    controller, urls = served
    link = _joined(urls)
    controller.faults += [Fault(SYNC, status=503, times=2), Fault(SYNC, status=409)]
    with pytest.raises(Unreachable, match="503"):
        link.call(SYNC, wire.Sync("b"), wire.Ought)
    with pytest.raises(Refused, match="as it was told to"):
        link.call(SYNC, wire.Sync("b"), wire.Ought)


def test_a_long_poll_ends_when_there_is_news(served: tuple[Controller, list[str]]) -> None:
    controller, urls = served
    link, news = _joined(urls[:1]), threading.Event()

    def interrupt() -> None:
        controller.until(lambda: controller.syncs)
        news.set()
        link.interrupt()

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(Interrupted):
        link.poll(SYNC, wire.Sync("b", seen=1, wait_s=60), wire.Ought, 60, news)
    news.clear()
    assert link.poll(SYNC, wire.Sync("b", seen=0), wire.Ought, 1, news).version == 1


def test_a_foreign_url_never_gets_our_session(served: tuple[Controller, list[str]]) -> None:
    link = _joined(served[1][1:])
    with pytest.raises(Refused) as refused, link.exchange("GET", f"{served[1][1]}/agent/v1/objects/x", {}):
        pass
    assert refused.value.status == 401


@pytest.mark.parametrize("url", ["ftp://x", "http://", "nothing", ""])
def test_an_unusable_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not a URL"):
        http1.address(url)


def test_pauses_grow_with_jitter_up_to_a_limit() -> None:
    backoff = Backoff(1.0, 4.0)
    pauses = [backoff.next() for _ in range(6)]
    assert all(low / 2 <= pause <= low for low, pause in zip((1, 2, 4, 4, 4, 4), pauses, strict=True))
    backoff.reset()
    assert backoff.next() <= 1
