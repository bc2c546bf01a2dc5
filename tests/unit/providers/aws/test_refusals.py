"""What each code that EC2 answers with is taken for, one row a code, and what the memory of it covers."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from provisioner.domain.errors import NoCapacity, QuotaExceeded, Rejected, Throttled, Unauthorized, Unreachable
from provisioner.domain.offer import Market, Offer
from provisioner.providers.aws.refusals import ROWS, family, quota_pool, refusal, region_pool, spot_pool

SPOT = Offer(
    "aws",
    "us-east-1",
    "use1-az1",
    "g4dn.xlarge",
    Market.SPOT,
    Decimal("0.2"),
    "a test",
    "us-east-1",
    4,
    16.0,
    100.0,
    pools=(
        region_pool("us-east-1"),
        spot_pool("us-east-1"),
        quota_pool("us-east-1", "g4dn.xlarge", Market.SPOT),
    ),
)
ON_DEMAND = replace(
    SPOT,
    market=Market.ON_DEMAND,
    pools=(region_pool("us-east-1"), quota_pool("us-east-1", "g4dn.xlarge", Market.ON_DEMAND)),
)
OTHER_ZONE = replace(SPOT, zone="use1-az2")
OTHER_TYPE = replace(SPOT, instance_type="g5.xlarge")
OTHER_REGION = replace(
    SPOT,
    region="eu-west-1",
    zone="euw1-az1",
    pools=(region_pool("eu-west-1"), quota_pool("eu-west-1", "g4dn.xlarge", Market.SPOT)),
)
OTHERS = {
    "on-demand": ON_DEMAND,
    "zone": OTHER_ZONE,
    "type": OTHER_TYPE,
    "region": OTHER_REGION,
}

# code -> our error, its cool-down in seconds, and which of the others it covers beside the offer itself
CODES = [
    ("InsufficientInstanceCapacity", NoCapacity, 180, set()),
    ("InsufficientHostCapacity", NoCapacity, 180, set()),
    ("InsufficientReservedInstanceCapacity", NoCapacity, 180, set()),
    ("InsufficientCapacity", NoCapacity, 180, set()),
    ("SpotMaxPriceTooLow", NoCapacity, 180, set()),
    ("Unsupported", NoCapacity, 86400, {"on-demand"}),
    ("InsufficientFreeAddressesInSubnet", NoCapacity, 180, {"on-demand", "type"}),
    ("VcpuLimitExceeded", QuotaExceeded, 900, {"zone", "type"}),
    ("InstanceLimitExceeded", QuotaExceeded, 900, {"zone", "type"}),
    ("MaxSpotInstanceCountExceeded", QuotaExceeded, 900, {"zone", "type"}),
    ("VolumeLimitExceeded", QuotaExceeded, 900, {"zone", "type"}),
    ("AddressLimitExceeded", QuotaExceeded, 900, {"zone", "type"}),
    ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", NoCapacity, 3600, {"zone", "type"}),
    ("OptInRequired", NoCapacity, 3600, {"on-demand", "zone", "type"}),
]


@pytest.mark.parametrize(("code", "kind", "cooldown_s", "covered"), CODES, ids=[row[0] for row in CODES])
def test_what_is_remembered(code: str, kind: type[Exception], cooldown_s: float, covered: set[str]) -> None:
    error = refusal(code, "says the cloud", SPOT)
    assert type(error) is kind
    assert error.message == f"{code}: says the cloud"
    assert error.cooldown_s == cooldown_s
    assert SPOT.covered_by(error.scope)
    assert {name for name, other in OTHERS.items() if other.covered_by(error.scope)} == covered


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *[(code, Unauthorized) for code in ("UnauthorizedOperation", "AuthFailure", "ExpiredToken", "RequestExpired")],
        *[(code, Unauthorized) for code in ("ExpiredTokenException", "InvalidClientTokenId", "InvalidClientToken")],
        *[(code, Unauthorized) for code in ("UnrecognizedClientException", "PendingVerification", "Blocked")],
        *[(code, Unauthorized) for code in ("SignatureDoesNotMatch",)],
        *[(code, Throttled) for code in ("RequestLimitExceeded", "Throttling", "ThrottlingException", "SlowDown")],
        *[(code, Throttled) for code in ("EC2ThrottledException", "RequestThrottled", "RequestThrottledException")],
        *[(code, Unreachable) for code in ("InternalError", "InternalFailure", "ServerInternal", "RequestTimeout")],
        *[(code, Unreachable) for code in ("ServiceUnavailable", "Unavailable")],
        *[(code, Unreachable) for code in ("DependencyViolation", "VolumeInUse", "IncorrectState")],
        *[(code, Unreachable) for code in ("InvalidNetworkInterface.InUse", "InvalidGroup.InUse")],
        *[(code, Rejected) for code in ("InvalidAMIID.NotFound", "InvalidAMIID.Malformed", "InvalidParameterValue")],
        *[(code, Rejected) for code in ("InvalidParameterCombination", "InvalidSubnetID.NotFound", "MissingParameter")],
        *[(code, Rejected) for code in ("InvalidGroup.NotFound", "InvalidBlockDeviceMapping", "UnsupportedOperation")],
        *[(code, Rejected) for code in ("IdempotentParameterMismatch", "SomethingNewIn2031")],
    ],
)
def test_what_is_done_about_it(code: str, kind: type[Exception]) -> None:
    assert type(refusal(code, "", SPOT)) is kind
    assert type(refusal(code, "")) is kind


def test_every_code_of_the_table_has_a_row_here() -> None:
    tested = {code for code, *_ in CODES}
    told = {code for row in ROWS for code in row.codes if row.kind in (NoCapacity, QuotaExceeded)}
    assert told == tested


def test_a_region_that_is_off_is_that_region_only() -> None:
    error = refusal("AuthFailure", "This account is not authorized for region eu-south-2", SPOT)
    assert type(error) is NoCapacity
    assert SPOT.covered_by(error.scope)
    assert not OTHER_REGION.covered_by(error.scope)


def test_a_quota_is_named_with_its_code() -> None:
    assert "L-3819A6DF" in refusal("VcpuLimitExceeded", "", SPOT).hint
    assert "L-DB2E81BA" in refusal("VcpuLimitExceeded", "", ON_DEMAND).hint


@pytest.mark.parametrize(
    ("kind", "counted"),
    [
        ("g5.xlarge", "G and VT"),
        ("gr6.4xlarge", "G and VT"),
        ("vt1.3xlarge", "G and VT"),
        ("p4d.24xlarge", "P"),
        ("m7i.large", "Standard"),
        ("c7gn.large", "Standard"),
        ("trn1.2xlarge", "trn"),
        ("inf2.xlarge", "inf"),
        ("hpc7a.12xlarge", "hpc"),
        ("x2idn.16xlarge", "x"),
    ],
)
def test_families_of_quotas(kind: str, counted: str) -> None:
    assert family(kind) == counted
