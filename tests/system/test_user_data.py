"""User-data as a real controller sends it to EC2: what is in it, what is not, and that its one secret works once.

EC2 is the fast one of tests/fakes.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator

import pytest

from agent import wire
from provisioner.cli.client import Client
from tests.fakes.fastec2 import fast_cloud
from tests.fakes.ports import free_port
from tests.fakes.user_data import all_said, config_of
from tests.system.served import served
from tests.system.world import World, world
from tests.unit.web.served import AgentClient

MARKS = {
    "env": "value-of-the-environment",
    "secret": "value-of-the-secret",
    "command": "echo text-of-the-command",
    "param": "value-of-the-parameter",
}
SPEC = {
    "run": MARKS["command"],
    "env": {"NAME_OF_THE_VARIABLE": MARKS["env"]},
    "params": {"rate": MARKS["param"]},
    "secrets": ["NAME_OF_THE_SECRET"],
    "need": {"gpu": {"name": "T4"}, "providers": ["aws"]},
}


class Launched:
    """What the controller of `w` sent for its first machine."""

    def __init__(self, w: World, user_data: str) -> None:
        self.w = w
        self.text = base64.b64decode(user_data).decode()
        self.config = config_of(self.text)

    async def join(self, nonce: str) -> tuple[int, str]:
        """Status, and the session or the message."""
        message = wire.Join(self.config["instance"], self.config["join_token"], nonce)
        answer = await AgentClient(self.w.home / "agents.sock").call("POST", "/agent/v1/join", wire.encode(message))
        return answer.status, answer.json["session"] if answer.status == 200 else answer.message


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    port = free_port()
    with fast_cloud() as cloud, world(tmp_path_factory.mktemp("user-data")) as w:
        w.extra = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        w.home.mkdir(mode=0o700)
        image = cloud.regions["us-east-1"].images["x86_64"]
        lines = (
            f"public_url: https://127.0.0.1:{port}",
            f"aws: {{enabled: true, regions: [us-east-1], image: {image}}}",
        )
        (w.home / "settings.yaml").write_text("\n".join(lines))
        with served(w, "--tls", "auto", port=port):
            job = {"id": "j-user-data", "spec": SPEC, "secrets": {"NAME_OF_THE_SECRET": MARKS["secret"]}}
            Client(f"unix:{w.home / 'control.sock'}").post("/jobs", job)
            w.until(lambda: cloud.asked("RunInstances"), 30, "the launch")
            yield Launched(w, cloud.asked("RunInstances")[0]["UserData"])


async def test_its_only_secret_is_a_token_that_one_machine_can_use(launched: Launched) -> None:
    """It is there for every program of the machine to read. Whoever comes second is refused, and that is recorded."""
    status, session = await launched.join("nonce-of-the-machine")
    assert status == 200
    replayed = await launched.join("nonce-of-somebody-else")
    assert replayed == (403, "this join token was used before, by another machine")
    assert await launched.join("nonce-of-the-machine") == (200, session)
    refused = [one["message"] for one in launched.w.json("events") if one["what"] == "instance.join_refused"]
    assert refused == ["its join token was used by somebody else"]


def test_nothing_of_the_job_and_no_key_is_in_it(launched: Launched) -> None:
    told = all_said(launched.text)
    named = ["NAME_OF_THE_VARIABLE", "NAME_OF_THE_SECRET", "j-user-data"]
    kept = [
        (launched.w.home / "key").read_text().strip(),
        *(path.read_text() for path in launched.w.home.glob("tls/*key*")),
    ]
    assert len(kept) > 1
    assert [one for one in (*MARKS.values(), *named, *kept, "testtest") if one in told] == []
