"""What offers share with one another, so that one refusal or one quota covers all of them: their names.

vCPUs are counted per region, market and family of types. The families and the codes of their quotas are those of AWS's
General Reference, "Amazon EC2 quotas", tables "On-Demand Instance quotas" and "Spot Instance quotas" (its links hold
the codes; read 2026-11-21).
"""

from __future__ import annotations

import re

from provisioner.domain.offer import Market

CODES = {
    ("DL", Market.ON_DEMAND): "L-6E869C2A",
    ("F", Market.ON_DEMAND): "L-74FC7D96",
    ("G and VT", Market.ON_DEMAND): "L-DB2E81BA",
    ("HPC", Market.ON_DEMAND): "L-F7808C92",
    ("High Memory", Market.ON_DEMAND): "L-43DA4232",
    ("Inf", Market.ON_DEMAND): "L-1945791B",
    ("P", Market.ON_DEMAND): "L-417A185B",
    ("Standard", Market.ON_DEMAND): "L-1216C47A",
    ("Trn", Market.ON_DEMAND): "L-2C3B7624",
    ("X", Market.ON_DEMAND): "L-7295265B",
    ("DL", Market.SPOT): "L-85EED4F7",
    ("F", Market.SPOT): "L-88CF9481",
    ("G and VT", Market.SPOT): "L-3819A6DF",
    ("Inf", Market.SPOT): "L-B5D1601B",
    ("P4, P3 and P2", Market.SPOT): "L-7212CCBC",
    ("P5", Market.SPOT): "L-C4BD4855",
    ("Standard", Market.SPOT): "L-34B43A08",
    ("Trn", Market.SPOT): "L-6B0D517C",
    ("X", Market.SPOT): "L-E3A00192",
}
_STANDARD = frozenset("acdhimrtz")
_BY_LETTERS = {
    "dl": "DL",
    "f": "F",
    "g": "G and VT",
    "gr": "G and VT",
    "vt": "G and VT",
    "hpc": "HPC",
    "u": "High Memory",
    "inf": "Inf",
    "p": "P",
    "trn": "Trn",
    "x": "X",
    "mac": "mac",
}
_SPOT_P = {"2": "P4, P3 and P2", "3": "P4, P3 and P2", "4": "P4, P3 and P2", "5": "P5"}


def family(instance_type: str, market: Market) -> str:
    """What a type's vCPUs are counted as, in the words of its quota; its letters where no quota is known to be its."""
    match = re.match(r"([a-z]+)-?(\d*)", instance_type)
    letters, generation = (match[1], match[2]) if match else (instance_type, "")
    if letters == "p" and market is Market.SPOT:
        return _SPOT_P.get(generation, f"p{generation}")
    return _BY_LETTERS.get(letters) or ("Standard" if letters[0] in _STANDARD else letters)


def quota_code(family: str, market: Market) -> str:
    """Of the quota in Service Quotas; "" where none is known."""
    return CODES.get((family, market), "")


def quota_pool(region: str, instance_type: str, market: Market) -> str:
    return family_pool(region, family(instance_type, market), market)


def family_pool(region: str, family: str, market: Market) -> str:
    return f"aws/{region}/quota {family}/{market}"


def spot_pool(region: str) -> str:
    return f"aws/{region}/spot"


def region_pool(region: str) -> str:
    return f"aws/{region}"
