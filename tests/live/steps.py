"""What a live test does, step by step, on whatever EC2 the SDK finds: one that bills, or one whose machines boot here.

One spot machine of a cheap type does one job, is looked at while it lives, and is gone afterwards by EC2's own account.
Whatever happens, all that carries the controller's tag is ended before this returns.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from provisioner.cli.client import Client
from provisioner.domain.policy import Policy
from tests.system.world import World

_CONTROLLER = "gpu-runner:controller"
_ENDED = ("shutting-down", "terminated")


@dataclass(frozen=True)
class Plan:
    """`max_usd_per_hour` is the ceiling that the spot request carries; `patience_s` how long any one step may take."""

    region: str = "us-east-1"
    instance_type: str = "t3.small"
    max_usd_per_hour: Decimal = Decimal("0.03")
    lifetime_s: float = 1200.0
    patience_s: float = 600.0

    @property
    def at_most_usd(self) -> Decimal:
        """The machine's price, should everything fail but its own dead-man."""
        policy = Policy()
        lives_s = self.lifetime_s + policy.boot_timeout_s + policy.drain_s + policy.deadman_bound_s
        return self.max_usd_per_hour * Decimal(lives_s) / 3600

    @property
    def words(self) -> list[str]:
        """For `runner run`."""
        rented = ["--provider", "aws", "--spot", "--instance-type", self.instance_type, "--region", self.region]
        limits = ["--max-price", str(self.max_usd_per_hour), "--max-lifetime", f"{self.lifetime_s:.0f}s"]
        return [*rented, *limits, "--disk", "10", "--timeout", "300s", "--no-workdir"]


def rented_and_gone(w: World, plan: Plan, pulled: Path) -> None:
    """The steps. `w` is a controller's world, served where machines reach it."""
    status = Client(f"unix:{w.home / 'control.sock'}").get("/status")
    account = _Account(plan.region, str(status["controller_id"]))
    assert account.machines() == [], "a new controller has no machines"
    with account.left_clean(plan.patience_s):
        job = w.submit(*plan.words, "--output", "out.txt", "--", "sh", "-c", "echo made > out.txt; sleep 5; echo done")
        _check_machine(account, _until(account.whole, "a machine to run", plan.patience_s)[0], plan)
        done = w.wait_done(job, plan.patience_s)
        assert (done["outcome"], done["attempts"]) == ("succeeded", 1), (done, w.log())
        assert w.run("logs", job).stdout.endswith(b"done\n")
        w.run("pull", job, str(pulled))
        assert (pulled / "out.txt").read_text() == "made\n"
        w.until(lambda: not w.json("machines"), plan.patience_s, "the controller to let go of it")
        assert account.machines("pending", "running", "stopping", "stopped") == []
        _until(lambda: not account.leftovers(), "disk and interface to go with the machine", plan.patience_s)


def _check_machine(account: _Account, row: dict[str, Any], plan: Plan) -> None:
    """As EC2 has it, not as we asked for it."""
    tags = {tag["Key"] for tag in row["Tags"]}
    assert tags >= {_CONTROLLER, "gpu-runner:name", "gpu-runner:owner", "gpu-runner:expires-at"}
    assert row["InstanceType"] == plan.instance_type
    assert row.get("InstanceLifecycle") == "spot"
    assert row["MetadataOptions"]["HttpTokens"] == "required"
    assert "IamInstanceProfile" not in row
    assert account.encrypted(row) == [True]
    groups = [group["GroupId"] for one in row["NetworkInterfaces"] for group in one["Groups"]]
    assert [account.rules(group) for group in groups] == [[]]
    assert account.shutdown_behaviour(row["InstanceId"]) == "terminate"


class _Account:
    """What EC2 says of one controller's things in one region, with the test's own credentials."""

    def __init__(self, region: str, controller: str) -> None:
        import boto3

        self._ec2 = boto3.client("ec2", region_name=region)
        self._ours = [{"Name": f"tag:{_CONTROLLER}", "Values": [controller]}]

    def machines(self, *states: str) -> list[dict[str, Any]]:
        filters = [*self._ours, *([{"Name": "instance-state-name", "Values": list(states)}] if states else [])]
        answer = self._ec2.describe_instances(Filters=filters)
        return [row for one in answer["Reservations"] for row in one["Instances"]]

    def whole(self) -> list[dict[str, Any]]:
        """Machines that run and whose disk is attached: a moment before, some of what they are does not show yet."""
        return [row for row in self.machines("running") if row.get("BlockDeviceMappings")]

    def encrypted(self, row: dict[str, Any]) -> list[bool]:
        """Whether each of its disks is."""
        disks = [one["Ebs"]["VolumeId"] for one in row["BlockDeviceMappings"]]
        return [bool(disk["Encrypted"]) for disk in self._ec2.describe_volumes(VolumeIds=disks)["Volumes"]]

    def leftovers(self) -> list[str]:
        """Disks and interfaces that are still there."""
        disks = [row["VolumeId"] for row in self._ec2.describe_volumes(Filters=self._ours)["Volumes"]]
        rows = self._ec2.describe_network_interfaces(Filters=self._ours)["NetworkInterfaces"]
        return disks + [row["NetworkInterfaceId"] for row in rows]

    def rules(self, group: str) -> list[Any]:
        (row,) = self._ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
        return list(row["IpPermissions"])

    def shutdown_behaviour(self, instance: str) -> str:
        name = "instanceInitiatedShutdownBehavior"
        answer = self._ec2.describe_instance_attribute(InstanceId=instance, Attribute=name)
        return str(answer["InstanceInitiatedShutdownBehavior"]["Value"])

    @contextlib.contextmanager
    def left_clean(self, patience_s: float) -> Iterator[None]:
        """Whatever a step did not end is ended, and seen to be gone; the security group goes last."""
        try:
            yield
        finally:
            if left := [row["InstanceId"] for row in self.machines() if row["State"]["Name"] not in _ENDED]:
                self._ec2.terminate_instances(InstanceIds=left)
            _until(lambda: all(row["State"]["Name"] == "terminated" for row in self.machines()), "the end", patience_s)
            for group in self._ec2.describe_security_groups(Filters=self._ours)["SecurityGroups"]:
                self._ec2.delete_security_group(GroupId=group["GroupId"])


def _until(found: Callable[[], Any], what: str, patience_s: float) -> Any:
    deadline = time.monotonic() + patience_s
    while not (value := found()):
        assert time.monotonic() < deadline, f"waited {patience_s:.0f} s for {what}"
        time.sleep(0.2)
    return value
