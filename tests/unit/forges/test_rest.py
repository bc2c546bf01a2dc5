"""The edge that forges share: what becomes of an answer, and how a listing is read to its end."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer

import pytest

from provisioner.domain.errors import (
    ForgeError,
    ForgeRefused,
    ForgeThrottled,
    ForgeUnauthorized,
    ForgeUnreachable,
)
from provisioner.forges.line import Line
from provisioner.forges.rest import Rest
from tests.fakes.hand_clock import HandClock
from tests.fakes.ports import free_port

SECRET = "s3cr3t-of-ada"
DATE = "Sat, 21 Nov 2026 09:05:00 GMT"  # five minutes ahead of our own clock
RESET = str(datetime(2026, 11, 21, 9, 7, tzinfo=UTC).timestamp())
Reply = tuple[int, dict[str, str], bytes]


class Ada:
    async def headers(self) -> Mapping[str, str]:
        return {"authorization": f"Bearer {SECRET}"}

    def refused(self) -> None:
        """She has no other."""


class Scripted:
    """A server that answers with the next of `replies`, and repeats the last. `asked` are paths with their queries."""

    def __init__(self) -> None:
        self.replies: list[Reply | Callable[[str], Reply]] = []
        self.asked: list[str] = []
        self.given: list[dict[str, str]] = []
        self.stopping = threading.Event()
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Tests print enough."""

            def date_time_string(self, timestamp: float | None = None) -> str:
                return DATE

            def do_GET(self) -> None:
                script.asked.append(self.path)
                script.given.append({name.lower(): value for name, value in self.headers.items()})
                reply = script.replies.pop(0) if len(script.replies) > 1 else script.replies[0]
                status, headers, content = reply(self.path) if callable(reply) else reply
                if status == 0:
                    script.stopping.wait(5.0)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_DELETE = do_GET

        self.server: HTTPServer = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def says(self, *replies: Reply | Callable[[str], Reply]) -> None:
        self.replies = list(replies)

    def stop(self) -> None:
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def server() -> Iterator[Scripted]:
    running = Scripted()
    yield running
    running.stop()


@pytest.fixture
async def rest(server: Scripted) -> AsyncIterator[Rest]:
    line = Line(timeout_s=2.0)
    yield Rest(server.url, Ada(), line, HandClock())
    await line.close()


def body(told: object, status: int = 200, **headers: str) -> Reply:
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(told).encode()


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (body({"message": "no"}, 400), ForgeRefused),
        (body({"message": "no"}, 401), ForgeUnauthorized),
        (body({"message": "no"}, 403), ForgeUnauthorized),
        (body({"message": "no"}, 404), ForgeRefused),
        (body({"message": "no"}, 408), ForgeUnreachable),
        (body({"message": "no"}, 410), ForgeRefused),
        (body({"message": "no"}, 422), ForgeRefused),
        (body({"message": "no"}, 429), ForgeThrottled),
        (body({"message": "no"}, 500), ForgeUnreachable),
        (body({"message": "no"}, 503), ForgeUnreachable),
        (body({"message": "no"}, 503, retry_after="9"), ForgeThrottled),
        (body({"message": "no"}, 302, location="https://elsewhere.invalid/x"), ForgeRefused),
        ((200, {}, b"<html>a proxy's own page</html>"), ForgeUnreachable),
    ],
)
async def test_every_answer_is_one_of_our_errors(
    server: Scripted, rest: Rest, reply: Reply, kind: type[ForgeError]
) -> None:
    server.says(reply)
    with pytest.raises(ForgeError) as caught:
        await rest.call("POST", "/x")
    assert type(caught.value) is kind
    assert "POST /x" in caught.value.message


@pytest.mark.parametrize(
    ("reply", "wait_s"),
    [
        (body({"message": "slow down"}, 403, retry_after="7"), 7.0),
        (body({"message": "You have exceeded a secondary rate limit"}, 403), 60.0),
        (body({}, 429, retry_after="Sat, 21 Nov 2026 09:00:00 GMT"), 60.0),
        (body({}, 403, x_ratelimit_limit="50", x_ratelimit_remaining="0", x_ratelimit_reset=RESET), 120.0),
    ],
)
async def test_how_long_to_wait_is_as_the_forge_says_by_its_own_clock(
    server: Scripted, rest: Rest, reply: Reply, wait_s: float
) -> None:
    server.says(reply)
    with pytest.raises(ForgeThrottled) as caught:
        await rest.call("GET", "/x")
    assert caught.value.retry_after_s == wait_s
    with pytest.raises(ForgeThrottled):
        await rest.call("DELETE", "/x", removal=True)
    assert server.asked == ["/x"]


async def test_a_credential_that_the_forge_repeats_is_not_passed_on(server: Scripted, rest: Rest) -> None:
    server.says(body({"message": f"the token {SECRET} is not known"}, 401))
    with pytest.raises(ForgeUnauthorized, match=r"the token \*\*\* is not known"):
        await rest.call("GET", "/x")


async def test_who_does_not_answer_is_not_waited_for(server: Scripted) -> None:
    line = Line(timeout_s=0.2)
    server.says((0, {}, b""))
    with pytest.raises(ForgeUnreachable, match=r"no answer in 0\.2 s"):
        await Rest(server.url, Ada(), line, HandClock()).call("GET", "/x")
    server.stopping.set()
    await line.close()


async def test_where_nothing_listens_is_unreachable() -> None:
    line = Line(timeout_s=2.0)
    with pytest.raises(ForgeUnreachable):
        await Rest(f"http://127.0.0.1:{free_port()}", Ada(), line, HandClock()).call("GET", "/x")
    await line.close()


async def test_a_next_page_at_another_address_is_not_followed(server: Scripted, rest: Rest) -> None:
    """The credential would go along."""
    server.says(body([], link='<http://elsewhere.invalid/x?page=2>; rel="next"'))
    with pytest.raises(ForgeUnreachable, match="its next page is at another address"):
        await rest.pages("/x")


async def test_pages_that_never_end_are_not_read_for_ever(server: Scripted, rest: Rest) -> None:
    server.says(body([{"id": 1}], link=f'<{server.url}/x?page=2>; rel="next"'))
    with pytest.raises(ForgeUnreachable, match="its pages never end"):
        await rest.pages("/x")


async def test_what_is_not_a_list_is_not_an_empty_one(server: Scripted, rest: Rest) -> None:
    server.says(body({"message": "all is well"}))
    with pytest.raises(ForgeUnreachable, match="not a list"):
        await rest.pages("/x", key="runners")


async def test_a_list_that_changes_while_it_is_read_hides_nothing_that_stays(server: Scripted, rest: Rest) -> None:
    """1 goes away after the first page was read, so that 3 moves up to where nobody looks any more."""
    link = f'<{server.url}/x?page=2>; rel="next"'
    server.says(
        body({"total_count": 4, "all": [{"id": 1}, {"id": 2}]}, link=link),
        body({"total_count": 3, "all": [{"id": 4}]}),
        body({"total_count": 3, "all": [{"id": 2}, {"id": 3}]}, link=link),
        body({"total_count": 3, "all": [{"id": 4}]}),
    )
    assert [item["id"] for item in await rest.pages("/x", key="all")] == [2, 3, 4]


async def test_a_list_that_never_rests_is_all_that_any_reading_found(server: Scripted, rest: Rest) -> None:
    server.says(*(body({"total_count": 9, "all": [{"id": number}]}) for number in range(3)))
    assert [item["id"] for item in await rest.pages("/x", key="all")] == [0, 1, 2]


async def test_an_unchanged_listing_is_the_one_that_is_known(server: Scripted, rest: Rest) -> None:
    server.says(body([{"id": 1}], etag='"a"'), (304, {}, b""))
    assert await rest.pages("/x", {"q": "1"}) == await rest.pages("/x", {"q": "1"}) == [{"id": 1}]
    assert [given.get("if-none-match") for given in server.given] == [None, '"a"']


async def test_listings_that_are_asked_for_again_and_again_outlast_those_of_runs_that_are_over(
    server: Scripted,
) -> None:
    line = Line(timeout_s=2.0)
    rest = Rest(server.url, Ada(), line, HandClock(), most_known=2)
    server.says(lambda path: body([], etag=f'"{path}"'))
    for path in ("/kept", "/over", "/kept", "/new", "/kept", "/over"):
        await rest.pages(path)
    await line.close()
    known = [given.get("if-none-match") for given in server.given]
    assert known == [None, None, '"/kept"', None, '"/kept"', None]
