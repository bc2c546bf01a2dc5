"""What EC2 says no with, as data: which of our errors each code is, what it covers, and how long that is remembered.

Source: "Error codes for the Amazon EC2 API" in AWS's documentation.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from provisioner.domain.errors import (
    NoCapacity,
    ProviderError,
    QuotaExceeded,
    Rejected,
    Throttled,
    Unauthorized,
    Unreachable,
)
from provisioner.domain.offer import Offer

from .pools import family, quota_code, quota_pool, region_pool, spot_pool

_NOT_ENABLED = re.compile(r"region|opt.?in", re.IGNORECASE)
_ENCODED = " Encoded authorization failure message:"  # and a kilobyte that only `aws sts` can read


def _itself(offer: Offer) -> str:
    return offer.key


def _type_and_image(offer: Offer) -> str:
    """A wrong image for the type reads the same as a type that the zone does not have."""
    return f"aws/{offer.zone}/{offer.instance_type}"


def _zone(offer: Offer) -> str:
    """A zone is launched into through one subnet."""
    return f"aws/{offer.zone}"


def _quota(offer: Offer) -> str:
    return quota_pool(offer.region, offer.instance_type, offer.market)


def _spot(offer: Offer) -> str:
    return spot_pool(offer.region)


def _region(offer: Offer) -> str:
    return region_pool(offer.region)


@dataclass(frozen=True, slots=True)
class Row:
    """One decision. `codes` may end in `*`; `covers` names the scope of the memory; `hint` says what to do."""

    kind: type[ProviderError]
    codes: tuple[str, ...]
    covers: Callable[[Offer], str] = _itself
    cooldown_s: float = 180.0
    hint: str = ""


ROWS: tuple[Row, ...] = (
    Row(
        NoCapacity,
        (
            "InsufficientInstanceCapacity",
            "InsufficientHostCapacity",
            "InsufficientReservedInstanceCapacity",
            "InsufficientCapacity",
            "SpotMaxPriceTooLow",
        ),
    ),
    Row(NoCapacity, ("Unsupported",), _type_and_image, 86400.0),
    Row(NoCapacity, ("InsufficientFreeAddressesInSubnet",), _zone),
    Row(
        QuotaExceeded,
        (
            "VcpuLimitExceeded",
            "InstanceLimitExceeded",
            "MaxSpotInstanceCountExceeded",
            "VolumeLimitExceeded",
            "AddressLimitExceeded",
        ),
        _quota,
        900.0,
        "ask for more at Service Quotas: {quota}",
    ),
    Row(Unauthorized, ("RequestExpired",), hint="this machine's clock is off: set it"),
    Row(
        Unauthorized,
        ("ExpiredToken", "ExpiredTokenException"),
        hint="the credentials have expired: renew them, for instance with `aws sso login`",
    ),
    Row(
        Unauthorized,
        (
            "UnauthorizedOperation",
            "AccessDenied",
            "AccessDeniedException",
            "AuthFailure",
            "InvalidClientTokenId",
            "InvalidClientToken",
            "UnrecognizedClientException",
            "SignatureDoesNotMatch",
            "PendingVerification",
            "Blocked",
        ),
        hint="runner doctor --provider aws names the account and what it may not do",
    ),
    Row(
        NoCapacity,
        ("AuthFailure.ServiceLinkedRoleCreationNotPermitted",),
        _spot,
        3600.0,
        "once, as an administrator: aws iam create-service-linked-role --aws-service-name spot.amazonaws.com",
    ),
    Row(NoCapacity, ("OptInRequired",), _region, 3600.0, "accept the image's terms, or choose another image"),
    Row(
        Throttled,
        (
            "RequestLimitExceeded",
            "Throttling",
            "ThrottlingException",
            "EC2ThrottledException",
            "RequestThrottled",
            "RequestThrottledException",
            "TooManyRequestsException",
            "SlowDown",
        ),
    ),
    Row(
        Unreachable,
        ("InternalError", "InternalFailure", "ServerInternal", "ServiceUnavailable", "Unavailable", "RequestTimeout"),
    ),
    Row(  # what is to be deleted and is still in use: a part of a machine that is on its way out
        Unreachable,
        ("DependencyViolation", "VolumeInUse", "IncorrectState", "InvalidNetworkInterface.InUse", "InvalidGroup.InUse"),
    ),
    Row(
        Rejected,
        (
            "InvalidAMIID*",
            "InvalidParameter*",
            "InvalidSubnetID.NotFound",
            "InvalidGroup.NotFound",
            "InvalidBlockDeviceMapping",
            "MissingParameter",
            "UnsupportedOperation",
        ),
    ),
    Row(Rejected, ("IdempotentParameterMismatch",), hint="this is a bug: one name was asked for as two machines"),
)
_REGION_OFF = Row(NoCapacity, ("AuthFailure",), _region, 3600.0, "enable the region in the account, or leave it out")
_ROW_OF = {code: row for row in ROWS for code in row.codes if not code.endswith("*")}
_PATTERNS = [(code, row) for row in ROWS for code in row.codes if code.endswith("*")]


def refusal(code: str, message: str, offer: Offer | None = None) -> ProviderError:
    """Our error for what EC2 said of launching `offer`. A code that the table lacks is Rejected, in its own words."""
    row = _row(code, message)
    message = message.partition(_ENCODED)[0]
    said = f"{code}: {message}" if message else code
    if offer is None:
        return row.kind(said, hint=row.hint.replace("{quota}", "the quota"))
    counted = family(offer.instance_type, offer.market)
    quota = quota_code(counted, offer.market)
    words = f"{counted} {offer.market} vCPUs in {offer.region}" + (f" ({quota})" if quota else "")
    return row.kind(said, hint=row.hint.replace("{quota}", words), scope=row.covers(offer), cooldown_s=row.cooldown_s)


def _row(code: str, message: str) -> Row:
    if code == "AuthFailure" and _NOT_ENABLED.search(message):
        return _REGION_OFF
    if (row := _ROW_OF.get(code)) is not None:
        return row
    found = next((row for pattern, row in _PATTERNS if fnmatchcase(code, pattern)), None)
    return found or Row(Rejected, (code,))
