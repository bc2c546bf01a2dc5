"""A cloud whose machines boot: each instance of the EC2 server becomes a host of its own and runs its real user-data.

A host has a network namespace, process and mount namespaces, folders over /var/lib/gpu-runner and beside it, an /etc
and a /home of its own, a kernel log that says what the test has it say, and a metadata service
at 169.254.169.254 that speaks IMDSv2 and serves its user-data. `poweroff` inside ends the instance, as EC2 does with
shutdown behaviour `terminate`; an instance that is terminated loses all of its processes at once. Needs root, and a
kernel that lets network namespaces be made.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .ec2 import REGIONS, Cloud

STATE = "/var/lib/gpu-runner"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LOOK_S = 0.1
_TOP = Path(__file__).resolve().parents[2]
# A host's first process: folders of its own, its metadata service, its boot commands; then it is the host's init.
_INIT = """
import os, signal, subprocess, sys
state, folder, boot = sys.argv[1:4]
os.makedirs(state, exist_ok=True)
os.makedirs(f"{folder}/disk", exist_ok=True)
subprocess.run(["mount", "--bind", f"{folder}/disk", state], check=True)
subprocess.run(["mount", "--bind", f"{folder}/kmsg", "/dev/kmsg"], check=True)
os.makedirs(f"{state}-jobs", exist_ok=True)
for name in ("jobs", "layers"):
    os.makedirs(f"{folder}/{name}", exist_ok=True)
subprocess.run(["mount", "--bind", f"{folder}/jobs", f"{state}-jobs"], check=True)
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", f"{folder}/layers"], check=True)
for name in ("upper", "work"):
    os.makedirs(f"{folder}/layers/{name}")
layers = f"lowerdir=/etc,upperdir={folder}/layers/upper,workdir={folder}/layers/work"
subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", "/etc"], check=True)
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/home"], check=True)
subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/var/tmp"], check=True)
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["ip", "addr", "add", "169.254.169.254/32", "dev", "lo"], check=True)
subprocess.Popen([sys.executable, "-m", "tests.fakes.metadata", folder])
if os.path.exists(f"{folder}/cloud.json"):
    subprocess.Popen([sys.executable, "-m", "tests.fakes.sshd", folder])
import json
for command in json.loads(boot):
    subprocess.run([sys.executable, *command[1:]] if command[0] == "python3" else command)
while True:
    try:
        os.wait()
    except ChildProcessError:
        signal.pause()
"""


@functools.cache
def missing() -> str:
    """Why no cloud can boot here; empty when it can."""
    if os.geteuid() != 0:
        return "machines are booted by root only"
    name = f"grt{os.getpid()}"
    within = ("ip", "netns", "exec", name, "unshare", "-m", "-p", "-f", "--mount-proc", "true")
    try:
        for words in (("ip", "netns", "add", name), within, ("ip", "link", "add", name, "type", "bridge")):
            subprocess.run(words, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no network namespaces here: {error}"
    finally:
        for words in (("ip", "netns", "del", name), ("ip", "link", "del", name)):
            with contextlib.suppress(OSError):
                subprocess.run(words, capture_output=True, check=False)
    return ""


@dataclass
class Host:
    """One booted instance. `console` is what it printed."""

    instance: str
    region: str
    name: str
    netns: str
    folder: Path
    process: subprocess.Popen[bytes]
    address: str = ""

    def kernel_says(self, text: str) -> None:
        """In the host's kernel log."""
        path = self.folder / "kmsg"
        with path.open("a") as file:
            file.write(f"4,{len(path.read_text().splitlines())},1,-;{text}\n")

    def run(self, *words: str) -> bytes:
        """As root, inside; what it printed."""
        (first, *_) = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        inside = ["nsenter", "-t", first, "-a", *words]
        return subprocess.run(inside, check=True, capture_output=True, timeout=30).stdout

    def say(self, path: str, text: str) -> None:
        """Its metadata service has this, too, from now on."""
        part = self.folder / "more.json.part"
        part.write_text(json.dumps({path: text}))
        part.rename(self.folder / "more.json")

    @property
    def console(self) -> str:
        return (self.folder / "console.log").read_text()


@dataclass
class BootingCloud:
    """`gateway` is where hosts reach the outside, the test itself. `boots` False: machines run and do nothing. `gpu` is
    the line that the driver's tool prints on hosts that boot from now on; "" is none. `cut_off`: those that boot from
    now on reach nothing. `prepare` is called with the network namespace of each host before it boots."""

    cloud: Cloud
    folder: Path
    bridge: str
    subnet: int
    boots: bool = True
    gpu: str = "Tesla T4, 550.54.15, 15360, 3, 0, 41"
    cut_off: bool = False
    prepare: Callable[[str], None] = lambda netns: None
    hosts: dict[str, Host] = field(default_factory=dict)
    ended: list[Host] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _count: int = 1

    @property
    def gateway(self) -> str:
        return f"10.77.{self.subnet}.1"

    def watch(self) -> None:
        """Until it is over: boot what runs, end what was terminated, terminate what powered itself off."""
        import boto3

        clients = {region: boto3.client("ec2", region_name=region) for region in REGIONS}
        while not self._over.wait(_LOOK_S):
            for region, client in clients.items():
                try:
                    self._look(region, client)
                except Exception as error:  # a server on its way down; whoever waits for a host will see
                    print(f"booting cloud: {error!r}", file=sys.stderr)

    def _look(self, region: str, client: Any) -> None:
        rows = [row for one in client.describe_instances()["Reservations"] for row in one["Instances"]]
        for row in rows:
            instance, state = row["InstanceId"], row["State"]["Name"]
            host = self.hosts.get(instance)
            if state == "running" and host is None and self.boots and not self._was(instance):
                self.hosts[instance] = self._boot(region, row, client)
            elif host is not None and state in ("terminated", "shutting-down"):
                self._end(host)
            elif host is not None and (host.folder / "powered-off").exists():
                client.terminate_instances(InstanceIds=[instance])
                self._end(host)

    def _was(self, instance: str) -> bool:
        return any(host.instance == instance for host in self.ended)

    def _boot(self, region: str, row: dict[str, Any], client: Any) -> Host:
        import base64

        instance, self._count = row["InstanceId"], self._count + 1
        raw = client.describe_instance_attribute(InstanceId=instance, Attribute="userData")["UserData"]["Value"]
        text = base64.b64decode(raw).decode()
        folder = self.folder / instance
        (folder / "bin").mkdir(parents=True)
        (folder / "metadata.json").write_text(json.dumps({"instance_id": instance, "user_data": text}))
        (folder / "kmsg").touch()
        (folder / "bin/poweroff").write_text(f"#!/bin/sh\necho off > {folder}/powered-off\n")
        (folder / "bin/poweroff").chmod(0o755)
        tool = f"echo '{self.gpu}'" if self.gpu else "echo 'No devices were found'; exit 6"
        (folder / "bin/nvidia-smi").write_text(f"#!/bin/sh\n{tool}\n")
        (folder / "bin/nvidia-smi").chmod(0o755)
        netns, address = f"{self.bridge}n{self._count}", f"10.77.{self.subnet}.{self._count}"
        veth = f"{self.bridge}v{self._count}"
        _ip("netns", "add", netns)
        _ip("link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", netns)
        _ip("link", "set", veth, "master", self.bridge, "up")
        _ip("-n", netns, "addr", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", netns, "link", "set", "eth0", "down" if self.cut_off else "up")
        self.cloud.addresses[instance] = address
        self.prepare(netns)
        told = yaml.safe_load(text)
        if "ssh_keys" in told:
            (folder / "cloud.json").write_text(json.dumps(told))
        boot = told.get("bootcmd", [])
        words = ["ip", "netns", "exec", netns, "unshare", "-m", "-p", "-f", "--mount-proc", "--kill-child"]
        words += [sys.executable, "-c", _INIT, STATE, str(folder), json.dumps(boot)]
        environment = {"PATH": f"{folder}/bin:{PATH}", "HOME": "/root", "PYTHONPATH": str(_TOP)}
        with (folder / "console.log").open("ab") as console:
            process = subprocess.Popen(
                words, env=environment, stdin=subprocess.DEVNULL, stdout=console, stderr=console, cwd=_TOP,
                start_new_session=True,
            )  # fmt: skip
        tags = {tag["Key"]: tag["Value"] for tag in row.get("Tags", [])}
        return Host(instance, region, tags.get("Name", ""), netns, folder, process, address)

    def _end(self, host: Host) -> None:
        """The plug is pulled: the first process of its namespace dies, and all others with it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(host.process.pid, signal.SIGKILL)
        host.process.wait(10)
        _ip("netns", "del", host.netns)
        self.hosts.pop(host.instance, None)
        self.ended.append(host)

    def console(self, instance: str) -> str | None:
        """What EC2 says of it: of one that ended, too."""
        host = self.hosts.get(instance) or next((one for one in self.ended if one.instance == instance), None)
        return host.console if host else ""

    def take(self, host: Host) -> None:
        """The cloud takes it back without a word."""
        import boto3

        self.cloud.taken.add(host.instance)
        boto3.client("ec2", region_name=host.region).terminate_instances(InstanceIds=[host.instance])

    def close(self) -> None:
        for host in list(self.hosts.values()):
            self._end(host)


@contextlib.contextmanager
def booting(cloud: Cloud, folder: Path) -> Iterator[BootingCloud]:
    """Its hosts are on a bridge of their own; ended, all of them, when it is."""
    subnet = os.getpid() % 200 + 20
    made = BootingCloud(cloud, folder, f"gr{os.getpid() % 100000}", subnet)
    cloud.console = made.console
    folder.mkdir(parents=True, exist_ok=True)
    _ip("link", "add", made.bridge, "type", "bridge")
    watching = threading.Thread(target=made.watch, daemon=True)
    try:
        _ip("addr", "add", f"{made.gateway}/24", "dev", made.bridge)
        _ip("link", "set", made.bridge, "up")
        watching.start()
        yield made
    finally:
        made._over.set()
        if watching.is_alive():
            watching.join(30)
        made.close()
        _ip("link", "del", made.bridge)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def until(found: Any, what: str, timeout_s: float = 60.0) -> Any:
    """What `found()` gives once it is true."""
    deadline = time.monotonic() + timeout_s
    while not (value := found()):
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.05)
    return value
