"""What an account has beside its machines, as the proxy before moto says it: quotas, prices, regions, the role of Spot.

moto has none of these, or says the same of every account. Answers are in the form of botocore's own service models, in
pages of two so that whoever reads one page alone is found out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

Answer = tuple[int, bytes]
_XMLNS = "http://ec2.amazonaws.com/doc/2016-11-15/"
_PAGE = 2
TYPES = ("g4dn.xlarge", "g4dn.2xlarge", "m5.large")


@dataclass
class Account:
    """`quotas` by (region, code), `spot` by (region, zone id, type), `on_demand` by (region, type). `off`: regions that
    exist and are not enabled. `spot_role`: whether it was ever made. `forbidden`: EC2 actions that dry runs deny."""

    quotas: dict[tuple[str, str], float] = field(default_factory=dict)
    spot: dict[tuple[str, str, str], Sequence[tuple[str, str]]] = field(default_factory=dict)
    on_demand: dict[tuple[str, str], str] = field(default_factory=dict)
    off: tuple[str, ...] = ()
    spot_role: bool = True
    forbidden: frozenset[str] = frozenset()

    def answer(self, service: str, region: str, action: str, words: Mapping[str, str], body: bytes) -> Answer | None:
        """None for what moto answers well enough."""
        if action == "DescribeSpotPriceHistory" and "DryRun" not in words:
            return self._spot_prices(region, words)
        if action == "ListServiceQuotas":
            return self._list_quotas(region, json.loads(body))
        if action == "GetProducts":
            return self._products(json.loads(body))
        if service == "iam" and action == "GetRole" and words["RoleName"] == "AWSServiceRoleForEC2Spot":
            return self._role()
        if words.get("DryRun") == "true":
            return self._dry_run(action)
        if service == "ec2" and region in self.off:
            return 401, refused("AuthFailure", "AWS was not able to validate the provided access credentials")
        return None

    def narrowed(self, action: str, words: Mapping[str, str]) -> bytes | None:
        """The same question about a few types only: moto's whole answer takes seconds to read."""
        if action == "DescribeInstanceTypes":
            return urlencode(words | {f"InstanceType.{n}": name for n, name in enumerate(TYPES, 1)}).encode()
        if action == "DescribeInstanceTypeOfferings":
            few = {f"Filter.1.Value.{n}": name for n, name in enumerate(TYPES, 1)}
            return urlencode(words | few | {"Filter.1.Name": "instance-type"}).encode()
        return None

    def _spot_prices(self, region: str, words: Mapping[str, str]) -> Answer:
        rows = [
            f"<item><instanceType>{name}</instanceType><productDescription>Linux/UNIX</productDescription>"
            f"<spotPrice>{usd}</spotPrice><timestamp>{at}</timestamp><availabilityZone>{region}x</availabilityZone>"
            f"<availabilityZoneId>{zone}</availabilityZoneId></item>"
            for (whose, zone, name), changes in self.spot.items()
            if whose == region
            for at, usd in changes
        ]
        page, more = _page(rows, words.get("NextToken", ""))
        inside = f"<spotPriceHistorySet>{''.join(page)}</spotPriceHistorySet><nextToken>{more}</nextToken>"
        return (
            200,
            f'<DescribeSpotPriceHistoryResponse xmlns="{_XMLNS}">{inside}</DescribeSpotPriceHistoryResponse>'.encode(),
        )

    def _list_quotas(self, region: str, asked: Mapping[str, Any]) -> Answer:
        rows = [{"ServiceCode": "ec2", "QuotaCode": c, "Value": v} for (r, c), v in self.quotas.items() if r == region]
        page, more = _page(rows, asked.get("NextToken", ""))
        return _json({"Quotas": page, **({"NextToken": more} if more else {})})

    def _products(self, asked: Mapping[str, Any]) -> Answer:
        region = next(one["Value"] for one in asked["Filters"] if one["Field"] == "regionCode")
        rows = [_product(region, name, usd) for (whose, name), usd in self.on_demand.items() if whose == region]
        page, more = _page(rows, asked.get("NextToken", ""))
        return _json({"FormatVersion": "aws_v1", "PriceList": page, **({"NextToken": more} if more else {})})

    def _role(self) -> Answer:
        if not self.spot_role:
            code = "<Code>NoSuchEntity</Code><Message>The role cannot be found.</Message>"
            return 404, f"<ErrorResponse><Error><Type>Sender</Type>{code}</Error></ErrorResponse>".encode()
        role = (
            "<Path>/aws-service-role/spot.amazonaws.com/</Path><RoleName>AWSServiceRoleForEC2Spot</RoleName>"
            "<RoleId>AROA1</RoleId><Arn>arn:aws:iam::123456789012:role/AWSServiceRoleForEC2Spot</Arn>"
            "<CreateDate>2026-01-01T00:00:00Z</CreateDate>"
        )
        return 200, f"<GetRoleResponse><GetRoleResult><Role>{role}</Role></GetRoleResult></GetRoleResponse>".encode()

    def _dry_run(self, action: str) -> Answer:
        if action in self.forbidden:
            return 403, refused("UnauthorizedOperation", "You are not authorized to perform this operation.")
        return 412, refused("DryRunOperation", "Request would have succeeded, but DryRun flag is set.")


def refused(code: str, message: str) -> bytes:
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return f"<Response><Errors>{error}</Errors><RequestID>r-1</RequestID></Response>".encode()


def _product(region: str, name: str, usd: str) -> str:
    rate = {"unit": "Hrs", "pricePerUnit": {"USD": usd}, "description": f"${usd} per On Demand Linux {name}"}
    product = {"productFamily": "Compute Instance", "attributes": {"instanceType": name, "regionCode": region}}
    return json.dumps({"product": product, "terms": {"OnDemand": {"S.T": {"priceDimensions": {"S.T.R": rate}}}}})


def _page(rows: Sequence[Any], token: str) -> tuple[list[Any], str]:
    start = int(token or 0)
    more = str(start + _PAGE) if start + _PAGE < len(rows) else ""
    return list(rows[start : start + _PAGE]), more


def _json(body: Mapping[str, Any]) -> Answer:
    return 200, json.dumps(body).encode()
