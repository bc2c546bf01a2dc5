"""Jobs on a rented machine run as a user of their own, with root's rights by sudo or with none at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from agent import wire
from agent.gather import Gatherer

from .forge import program
from .machine import Box
from .private import missing, private

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "they can be made")
NFT = '#!/bin/sh\ncat > "$(dirname "$0")/rules"\n'
FILTER = shutil.which("nft") or shutil.which("iptables")


def ended(machine: Box, run: str, **more: object) -> wire.AttemptState:
    """One job from its order to its end."""
    c = machine.controller
    number = len(c.orders) + 1
    order: dict[str, object] = {"job": "j1", "number": number, "run": run, **more}
    key = c.order(wire.Order(**order))  # type: ignore[arg-type]
    c.until(lambda: key in c.states and c.states[key].phase == "ended")
    return c.states[key]


def said(machine: Box, number: int = 1) -> dict[str, str]:
    """What it printed, as `name value` lines."""
    lines = machine.controller.log(("j1", number)).data.decode().splitlines()
    return {name: value for name, _, value in (line.partition(" ") for line in lines)}


SHOW = """
echo user $(id -un); echo groups $(id -Gn); echo home $HOME $USER; echo umask $(umask); echo folder $(stat -c %U:%a .)
echo state $(ls {state} 2>&1 | tail -1); echo order $(cat {state}/attempts/*/order.json 2>&1 | tail -1)
echo caps $(grep -E '^Cap(Inh|Prm|Eff|Amb)' /proc/self/status | cut -f2 | sort -u)
echo privs $(grep NoNewPrivs /proc/self/status | cut -f2); echo sudo $(sudo -n id -un 2>&1 | tail -1)
echo reopened > /dev/stdout; echo made > out.txt
"""


def test_a_job_is_its_user_and_root_by_sudo(tmp_path: Path) -> None:
    with private() as machine:
        machine.start()
        done = ended(machine, SHOW.format(state=machine.state), outputs=["out.txt"])
        assert (done.exit_code, done.why) == (0, ""), done
        told = said(machine)
        assert (told["user"], told["home"], told["umask"]) == ("runner", f"{Path('/home') / 'runner'} runner", "0022")
        assert told["folder"] == "runner:700"
        assert told["state"].endswith("Permission denied")
        assert told["order"].endswith(("Permission denied", "No such file or directory"))
        assert (told["caps"], told["privs"], "reopened" in told) == ("0000000000000000", "0", True)
        if shutil.which("sudo"):
            assert told["sudo"] == "root"
        (manifest,) = [one for one in machine.controller.manifests if one.final]
        assert [file.path for file in manifest.files] == ["out.txt"]
        assert done.facts["machine"]["user"] == "runner"
        ended(machine, "stat -c %U $(tty); echo its own > /dev/tty", tty=True)
        assert machine.controller.log(("j1", 2)).data.split() == [b"runner", b"its", b"own"]
        assert (machine.state.stat().st_mode & 0o777, machine.state.stat().st_uid) == (0o700, 0)


RUNNER = """#!/bin/sh
[ "$1" = --version ] && { id -un >> {image}/asked; echo 2.330.0; exit; }
echo user $(id -un); echo home $HOME; echo folder $(stat -c %U:%a .); echo program $(stat -c %U bin/Runner.Listener)
hooks=$(dirname $ACTIONS_RUNNER_HOOK_JOB_STARTED)
echo hooks $(stat -c %U:%a $hooks $ACTIONS_RUNNER_HOOK_JOB_STARTED)
(echo exit 1 > $ACTIONS_RUNNER_HOOK_JOB_STARTED; rm -f $hooks/events; mv $hooks $hooks.old) 2>/dev/null
echo left $(ls $hooks | wc -l)
GITHUB_REPOSITORY=acme/vision bash -e $ACTIONS_RUNNER_HOOK_JOB_STARTED && echo hook ran
"""


def test_a_forges_runner_is_that_user_and_its_hooks_are_ours() -> None:
    with private() as machine:
        image = machine.state.parent / "image"
        (image / "bin").mkdir(parents=True)
        image.chmod(0o777)
        (image / "bin/Runner.Listener").write_text(RUNNER.replace("{image}", str(image)))
        (image / "bin/Runner.Listener").chmod(0o755)
        about = ("github", "runner-i1", "https://github.com/acme/vision", "https://github.com", ["gpu"])
        where = ("https://none", "0" * 64, [str(image)], program("github"))
        ordered = wire.RunnerOrder(*about, "actions-runner", "2.330.0", *where)
        machine.controller.runners["j1", 1] = wire.RunnerGiven("runner-i1", "a-secret-of-its-own")
        machine.start()
        done = ended(machine, "", runner=ordered)
        assert (done.exit_code, done.why) == (0, ""), done
        told = said(machine)
        assert (image / "asked").read_text() == "runner\n"
        assert (told["user"], told["home"]) == ("runner", f"{Path('/home') / 'runner'}")
        assert (told["folder"], told["program"]) == ("runner:700", "runner")
        assert told["hooks"] == "root:755 root:555"
        assert (told["left"], told["hook"]) == ("3", "ran")
        assert done.runner is not None
        assert (done.runner.phase, done.runner.job["repository"]) == ("done", "acme/vision")


def test_without_sudo_there_is_no_way_back_to_root() -> None:
    """Not by a program that is root's for everybody, nor after a job that could."""
    with private() as machine:
        (machine.state.parent / "bin/nft").write_text(NFT)
        (machine.state.parent / "bin/nft").chmod(0o755)
        machine.start()
        ended(machine, "sudo -n install -m 4755 $(which id) ~/id; ~/id -un")
        ended(machine, SHOW.format(state=machine.state) + "echo id $(~/id -un)", sudo=False)
        told = said(machine, 2)
        assert (told["user"], told["groups"], told["privs"]) == ("runner", "runner", "1")
        assert (told["caps"], told["sudo"] != "root") == ("0000000000000000", True)
        if shutil.which("sudo"):
            assert machine.controller.log(("j1", 1)).data == b"root\n"
            assert told["id"] == "runner"
        rules = (machine.state.parent / "bin/rules").read_text()
        assert "ip daddr 169.254.169.254 reject" in rules


def test_without_a_packet_filter_a_job_without_sudo_is_refused() -> None:
    with private() as machine:
        bin = machine.state.parent / "bin"
        for name in ("useradd", "unshare", "mount", "mkdir", "ip"):
            (bin / name).symlink_to(shutil.which(name) or "")
        machine.path = f"{bin}:/bin" if not Path("/bin").is_symlink() else str(bin)
        (bin / "sh").symlink_to("/bin/sh")
        machine.start()
        done = ended(machine, "echo never", sudo=False)
        assert (done.why, done.exit_code) == ("rejected", None)
        assert done.detail == (
            "sudo: false keeps a job from the metadata service, which cannot be done: "
            "this machine has neither nft nor iptables"
        )


@pytest.mark.skipif(FILTER is None, reason="neither nft nor iptables here")
def test_without_sudo_the_metadata_service_is_out_of_reach() -> None:
    connect = "import socket; socket.create_connection(('169.254.169.254', 8080), 2); print('reached it')"
    serve = "/usr/bin/python3 -m http.server --bind 169.254.169.254 8080 >/dev/null 2>&1 & sleep 1;"
    with private() as machine:
        machine.path = f"{os.environ['PATH']}:{machine.path}"
        machine.start()
        ask = f'/usr/bin/python3 -c "{connect}" 2>&1 | tail -1'
        ended(machine, f"{serve} {ask}")
        ended(machine, f"{serve} {ask}", sudo=False)
        ended(machine, f"{serve} {ask}")
        logs = [machine.controller.log(("j1", number)).data.decode() for number in (1, 2, 3)]
        assert (logs[0], logs[2]) == ("reached it\n", "reached it\n")
        assert "refused" in logs[1] or "unreachable" in logs[1], logs[1]


def test_a_second_name_of_roots_file_is_not_taken(tmp_path: Path) -> None:
    workspace, secret = tmp_path / "work", tmp_path / "secret"
    workspace.mkdir()
    secret.write_text("root's own")
    os.link(secret, workspace / "mine.txt")
    (workspace / "fine.txt").write_text("made by sudo")
    os.chown(workspace, 65534, 65534)
    found = Gatherer(str(workspace)).outputs(["*.txt"])
    assert [file.path for file in found.files] == ["fine.txt"]
    assert found.refused == ["mine.txt: another name of somebody else's file"]
