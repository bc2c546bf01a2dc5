"""What moto's account has, asked of moto itself: the tags and roles that a policy's conditions are about."""

from __future__ import annotations

import http.client
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from urllib.parse import urlencode

from .iam import Tags


class MotoAccount:
    """`upstream`: host and port of the server."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self._upstream = upstream

    def tags_of(self, region: str, resource: str) -> Tags:
        if resource.startswith("i-"):
            asked = {"Action": "DescribeInstances", "InstanceId.1": resource, "Version": "2016-11-15"}
        else:
            return self._tags_of(region, resource)
        root = self._ask("ec2", region, asked)
        state = root.findtext(".//{*}instanceState/{*}name")
        rows = root.findall(".//{*}tagSet/{*}item") if state != "terminated" else []
        return {row.findtext("{*}key", ""): row.findtext("{*}value", "") for row in rows}

    def _tags_of(self, region: str, resource: str) -> Tags:
        """Of anything that has no state of its own here."""
        words = {"Filter.1.Name": "resource-id", "Filter.1.Value.1": resource}
        root = self._ask("ec2", region, {"Action": "DescribeTags", "Version": "2016-11-15", **words})
        rows = root.findall(".//{*}tagSet/{*}item")
        return {row.findtext("{*}key", ""): row.findtext("{*}value", "") for row in rows}

    def roles_of(self, profile: str) -> Sequence[str]:
        if not profile:
            return []
        asked = {"Action": "GetInstanceProfile", "InstanceProfileName": profile, "Version": "2010-05-08"}
        return [row.text or "" for row in self._ask("iam", "us-east-1", asked).findall(".//{*}RoleName")]

    def _ask(self, service: str, region: str, asked: dict[str, str]) -> ET.Element:
        """An error's document has none of what is looked for."""
        connection = http.client.HTTPConnection(*self._upstream, timeout=60)
        scope = f"account/20260101/{region}/{service}/aws4_request"
        headers = {
            "content-type": "application/x-www-form-urlencoded",
            "authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
        }
        try:
            connection.request("POST", "/", urlencode(asked).encode(), headers)
            return ET.fromstring(connection.getresponse().read())
        finally:
            connection.close()
