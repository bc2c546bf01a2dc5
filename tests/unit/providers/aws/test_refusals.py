"""What each code that EC2 answers with is taken for, one row a code, and what the memory of it covers."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from provisioner.domain.errors import NoCapacity, QuotaExceeded, Rejected, Throttled, Unauthorized, Unreachable
from provisioner.domain.gpu import parse_gpu
from provisioner.domain.job import Need
from provisioner.domain.offer import Market, Offer
from provisioner.providers.aws.catalog import Catalog
from provisioner.providers.aws.pools import family, quota_code, quota_pool, region_pool, spot_pool
from provisioner.providers.aws.refusals import ROWS, refusal

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
        *[(code, Unauthorized) for code in ("SignatureDoesNotMatch", "AccessDenied", "AccessDeniedException")],
        *[(code, Throttled) for code in ("RequestLimitExceeded", "Throttling", "ThrottlingException", "SlowDown")],
        *[(code, Throttled) for code in ("EC2ThrottledException", "RequestThrottled", "RequestThrottledException")],
        *[(code, Throttled) for code in ("TooManyRequestsException",)],
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
    ("kind", "on_demand", "spot"),
    [
        ("g5.xlarge", "G and VT", "G and VT"),
        ("gr6.4xlarge", "G and VT", "G and VT"),
        ("vt1.3xlarge", "G and VT", "G and VT"),
        ("p4d.24xlarge", "P", "P4, P3 and P2"),
        ("p5en.48xlarge", "P", "P5"),
        ("p6-b200.48xlarge", "P", "p6"),
        ("m7i.large", "Standard", "Standard"),
        ("c7gn.large", "Standard", "Standard"),
        ("i4i.large", "Standard", "Standard"),
        ("trn1.2xlarge", "Trn", "Trn"),
        ("inf2.xlarge", "Inf", "Inf"),
        ("hpc7a.12xlarge", "HPC", "HPC"),
        ("u-6tb1.56xlarge", "High Memory", "High Memory"),
        ("u7i-12tb.224xlarge", "High Memory", "High Memory"),
        ("x2idn.16xlarge", "X", "X"),
    ],
)
def test_families_of_quotas(kind: str, on_demand: str, spot: str) -> None:
    assert (family(kind, Market.ON_DEMAND), family(kind, Market.SPOT)) == (on_demand, spot)


def test_every_family_on_demand_has_a_quota() -> None:
    """Of all types that ship."""
    unknown = {name for name in Catalog().types if not quota_code(family(name, Market.ON_DEMAND), Market.ON_DEMAND)}
    assert unknown == set()


def test_a_refusal_covers_the_offers_of_the_catalogue_that_it_should() -> None:
    """Their pools are what the memory of a refusal is matched with."""
    offers = list(Catalog().offers(Need(gpu=parse_gpu("T4"), regions=("us-east-1",)), disk_gib=100))
    spot = next(offer for offer in offers if offer.market is Market.SPOT)
    covered = {o for o in offers if o.covered_by(refusal("MaxSpotInstanceCountExceeded", "", spot).scope)}
    assert covered == {offer for offer in offers if offer.market is Market.SPOT}
    off = refusal("AuthFailure", "not authorized for region us-east-1", spot)
    assert all(offer.covered_by(off.scope) for offer in offers)
