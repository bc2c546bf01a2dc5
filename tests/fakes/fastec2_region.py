"""One region: its default VPC with a subnet in each zone, its images and groups, and what each action does to them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .fastec2_machines import Machines
from .fastec2_wire import Refused
from .iam import ACCOUNT, Tags

_ZONES = {"us-east-1": ("use1-az", 6), "eu-west-1": ("euw1-az", 3)}
_USER_DATA = 16 * 1024  # bytes, before base64. Source: EC2 user guide, "Run commands when you launch an EC2 instance"


class Region:
    """`enabled` are all regions of the account."""

    def __init__(self, name: str, enabled: Sequence[str]) -> None:
        prefix, count = _ZONES[name]
        self.name = name
        self.vpc = f"vpc-{name}"
        self.machines = Machines()
        self.images = {arch: f"ami-{name}-{arch}" for arch in ("x86_64", "arm64")}
        self.subnets = {f"subnet-{name}-{n}": f"{prefix}{n}" for n in range(1, count + 1)}
        self.groups: dict[str, dict[str, Any]] = {}
        self._enabled = enabled
        self._actions: dict[str, Callable[[dict[str, Any]], Mapping[str, Any]]] = {
            "AuthorizeSecurityGroupIngress": self._authorize,
            "CreateSecurityGroup": self._create_group,
            "CreateTags": self._create_tags,
            "DescribeImages": self._describe_images,
            "DescribeInstances": self._describe_instances,
            "DescribeRegions": self._describe_regions,
            "DescribeSecurityGroups": self._describe_groups,
            "DescribeSubnets": self._describe_subnets,
            "DescribeVpcs": self._describe_vpcs,
            "GetParameter": self._get_parameter,
            "RevokeSecurityGroupIngress": self._revoke,
            "RunInstances": self._run,
            "TerminateInstances": self._terminate,
        }

    def do(self, action: str, asked: dict[str, Any]) -> Mapping[str, Any]:
        """Raises: Refused."""
        if action not in self._actions:
            raise Refused("InvalidAction", f"this fake does not know {action}")
        return self._actions[action](asked)

    def tags_of(self, resource: str) -> Tags:
        """Of an instance that is not terminated, or a group."""
        if (machine := self.machines.by_id.get(resource)) is not None:
            return machine.tags if machine.state != "terminated" else {}
        return _dict(self.groups.get(resource, {}).get("Tags", ()))

    def _run(self, asked: dict[str, Any]) -> Mapping[str, Any]:
        self._check(asked)
        tags = {one["ResourceType"]: _dict(one.get("Tags", ())) for one in asked.get("TagSpecifications", ())}
        machine = self.machines.launch(asked, self._fixed(asked), dict(tags.get("instance", {})))
        return machine.reservation()

    def _check(self, asked: dict[str, Any]) -> None:
        interface = _interface(asked)
        if asked.get("ImageId") not in self.images.values():
            raise Refused("InvalidAMIID.NotFound", f"The image id '[{asked.get('ImageId')}]' does not exist")
        if interface.get("SubnetId") not in self.subnets:
            raise Refused("InvalidSubnetID.NotFound", f"The subnet ID '{interface.get('SubnetId')}' does not exist")
        if unknown := [one for one in interface.get("Groups", ()) if one not in self.groups]:
            raise Refused("InvalidGroup.NotFound", f"The security group '{unknown[0]}' does not exist")
        if (asked["MinCount"], asked["MaxCount"]) != (1, 1):
            raise Refused("InvalidParameterValue", "this fake launches one at a time")
        if len(base64.b64decode(asked.get("UserData", ""))) > _USER_DATA:
            raise Refused("InvalidParameterValue", "User data is limited to 16384 bytes")

    def _fixed(self, asked: dict[str, Any]) -> dict[str, Any]:
        subnet = _interface(asked)["SubnetId"]
        spot = asked.get("InstanceMarketOptions", {}).get("MarketType") == "spot"
        zone = self.subnets[subnet]
        fixed = {
            "ImageId": asked["ImageId"],
            "InstanceType": asked["InstanceType"],
            "Placement": {"AvailabilityZone": _zone_name(self.name, zone), "Tenancy": "default"},
            "SubnetId": subnet,
            "VpcId": self.vpc,
            "SecurityGroups": [{"GroupId": one} for one in _interface(asked).get("Groups", ())],
            "Architecture": next(arch for arch, image in self.images.items() if image == asked["ImageId"]),
            "RootDeviceType": "ebs",
            "RootDeviceName": "/dev/sda1",
            "VirtualizationType": "hvm",
            "Monitoring": {"State": "disabled"},
        }
        return fixed | ({"InstanceLifecycle": "spot"} if spot else {})

    def _describe_instances(self, asked: dict[str, Any]) -> Mapping[str, Any]:
        found, more = self.machines.page(asked)
        return {"Reservations": [one.written() for one in found]} | ({"NextToken": more} if more else {})

    def _terminate(self, asked: dict[str, Any]) -> Mapping[str, Any]:
        return {"TerminatingInstances": [one.end() for one in self.machines.called(asked["InstanceIds"])]}

    def _create_tags(self, asked: dict[str, Any]) -> Mapping[str, Any]:
        for machine in self.machines.called(asked["Resources"]):
            machine.tagged(_dict(asked["Tags"]))
        return {}

    def _describe_regions(self, asked: dict[str, Any]) -> Mapping[str, Any]:
        rows = [
            {"RegionName": name, "Endpoint": f"ec2.{name}.amazonaws.com", "OptInStatus": "opt-in-not-required"}
            for name in self._enabled
        ]
        return {"Regions": rows}

    def _describe_vpcs(self, asked: dict[str, Any]) -> Mapping[str, Any]:
        return {"Vpcs": [{"VpcId": self.vpc, "IsDefault": True, "State": "available", "OwnerId": ACCOUNT}]}

    def _describe_subnets(self, asked: dict[str, Any]) -> Mapping[str, Any]:
        if unknown := [id for id in asked.get("SubnetIds", ()) if id not in self.subnets]:
            raise Refused("InvalidSubnetID.NotFound", f"The subnet ID '{unknown[0]}' does not exist")
        rows = [
            {
                "SubnetId": id,
                "VpcId": self.vpc,
                "AvailabilityZone": _zone_name(self.name, zone),
                "AvailabilityZoneId": zone,
                "AvailableIpAddressCount": 4091,
                "DefaultForAz": True,
                "State": "available",
            }
            for id, zone in self.subnets.items()
            if id in asked.get("SubnetIds", self.subnets)
        ]
        looks = {"default-for-az": lambda row: "true", "vpc-id": lambda row: row["VpcId"]}
        return {"Subnets": _filtered(rows, asked, looks)}

    def _describe_groups(self, asked: dict[str, Any]) -> Mapping[str, Any]:
        looks = {"vpc-id": lambda row: row["VpcId"], "group-name": lambda row: row["GroupName"]}
        return {"SecurityGroups": _filtered(list(self.groups.values()), asked, looks)}

    def _create_group(self, asked: dict[str, Any]) -> Mapping[str, Any]:
        name = asked["GroupName"]
        if asked.get("VpcId") != self.vpc:
            raise Refused("InvalidVpcID.NotFound", f"The vpc ID '{asked.get('VpcId')}' does not exist")
        if any(group["GroupName"] == name for group in self.groups.values()):
            raise Refused("InvalidGroup.Duplicate", f"The security group '{name}' already exists for VPC '{self.vpc}'")
        tags = [tag for one in asked.get("TagSpecifications", ()) for tag in one.get("Tags", ())]
        id = f"sg-{self.name}-{len(self.groups)}"
        self.groups[id] = {
            "GroupId": id,
            "GroupName": name,
            "Description": asked["Description"],
            "VpcId": self.vpc,
            "OwnerId": ACCOUNT,
            "IpPermissions": [],
            "Tags": tags,
        }
        return {"GroupId": id, "Tags": tags}

    def _authorize(self, asked: dict[str, Any]) -> Mapping[str, Any]:
        rules = self._group(asked)["IpPermissions"]
        if any(one in rules for one in asked["IpPermissions"]):
            raise Refused("InvalidPermission.Duplicate", "the specified rule already exists")
        rules += asked["IpPermissions"]
        return {"Return": True}

    def _revoke(self, asked: dict[str, Any]) -> Mapping[str, Any]:
        rules = self._group(asked)["IpPermissions"]
        for one in asked["IpPermissions"]:
            if one not in rules:
                raise Refused("InvalidPermission.NotFound", "The specified rule does not exist in this security group")
            rules.remove(one)
        return {"Return": True}

    def _group(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["GroupId"] not in self.groups:
            raise Refused("InvalidGroup.NotFound", f"The security group '{asked['GroupId']}' does not exist")
        return self.groups[asked["GroupId"]]

    def _describe_images(self, asked: dict[str, Any]) -> Mapping[str, Any]:
        if unknown := [id for id in asked.get("ImageIds", ()) if id not in self.images.values()]:
            raise Refused("InvalidAMIID.NotFound", f"The image id '[{unknown[0]}]' does not exist")
        rows = [
            {
                "ImageId": id,
                "OwnerId": ACCOUNT,
                "Architecture": arch,
                "RootDeviceName": "/dev/sda1",
                "RootDeviceType": "ebs",
                "State": "available",
                "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 8}}],
            }
            for arch, id in self.images.items()
            if id in asked.get("ImageIds", self.images.values())
        ]
        return {"Images": rows}

    def _get_parameter(self, asked: dict[str, Any]) -> Mapping[str, Any]:
        name = asked["Name"]
        if not name.startswith("/aws/service/"):
            raise Refused("ParameterNotFound", "")
        image = self.images["arm64" if "arm64" in name else "x86_64"]
        return {"Parameter": {"Name": name, "Type": "String", "Value": image, "Version": 1}}


def _interface(asked: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = (asked.get("NetworkInterfaces") or [{}])[0]
    return first


def _zone_name(region: str, zone_id: str) -> str:
    return region + "abcdef"[int(zone_id[-1]) - 1]


def _dict(tags: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag.get("Value", "") for tag in tags}


def _filtered(
    rows: list[dict[str, Any]], asked: Mapping[str, Any], looks: Mapping[str, Callable[[dict[str, Any]], str]]
) -> list[dict[str, Any]]:
    """Without wildcards. Raises: Refused."""
    for one in asked.get("Filters", ()):
        name, values = one["Name"], one.get("Values", ())
        if name.startswith("tag:"):
            rows = [row for row in rows if _dict(row.get("Tags", ())).get(name[4:]) in values]
        elif name == "tag-key":
            rows = [row for row in rows if _dict(row.get("Tags", ())).keys() & set(values)]
        elif name in looks:
            rows = [row for row in rows if looks[name](row) in values]
        else:
            raise Refused("InvalidParameterValue", f"The filter '{name}' is invalid")
    return rows
