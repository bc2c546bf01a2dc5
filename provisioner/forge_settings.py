"""Settings of forges, and of the CI runs that may come to a served controller without a token of ours."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from provisioner.domain.kinds import Declared, Kinds
from provisioner.domain.span import LONGEST_S

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"\d+(\.\d+){1,3}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ForgeSettings(BaseModel):
    """A forge, and what opens it: an App (of kinds that have them), a file with a token, or a variable that holds one.

    These are read with the kinds that there are as their context."""

    model_config = ConfigDict(extra="forbid")
    kind: str
    url: str = ""
    api: str = ""
    app_id: str = Field(default="", coerce_numbers_to_str=True)
    private_key_file: str = ""
    token_file: str = ""
    token_env: str = ""
    webhook_secret_file: str = ""
    preinstalled: tuple[str, ...] = ()
    runner_version: str = ""
    runner_url: str = ""
    runner_sha256: dict[str, str] = Field(default_factory=dict)

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str, info: ValidationInfo) -> str:
        return one_of(value, (one.kind for one in kinds_of(info)))

    @field_validator("url", "api", "runner_url")
    @classmethod
    def _address(cls, value: str) -> str:
        return checked_address(value)

    @field_validator("token_env")
    @classmethod
    def _variable(cls, value: str, info: ValidationInfo) -> str:
        """What it names is shown when it is missing; a token that was written here by mistake must not be."""
        prefixes = tuple(prefix for one in kinds_of(info) for prefix in one.prefixes)
        if value and (not _VARIABLE.fullmatch(value) or value.startswith(prefixes)):
            raise ValueError("write the name of a variable, not the token")
        return value

    @field_validator("preinstalled")
    @classmethod
    def _folders(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [folder for folder in value if not folder.startswith("/")]:
            raise ValueError(f"{wrong[0]!r} is not an absolute path on the machines")
        return value

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> ForgeSettings:
        kinds = kinds_of(info)
        self.url = self.url or kinds.of(self.kind).base
        if not self.url:
            raise ValueError("url is missing: write https://HOST")
        if bool(self.app_id) != bool(self.private_key_file):
            raise ValueError("an App needs both app_id and private_key_file")
        if self.app_id and not kinds.of(self.kind).apps:
            raise ValueError(f"only {names(one for one in kinds if one.apps)} has Apps: give token_file or token_env")
        if sum(map(bool, (self.app_id, self.token_file, self.token_env))) > 1:
            raise ValueError("give one of: app_id with private_key_file, token_file, token_env")
        self._check_pins()
        return self

    def _check_pins(self) -> None:
        if self.runner_version and not _VERSION.fullmatch(self.runner_version):
            raise ValueError(f"runner_version: {self.runner_version[:40]!r} is not a version such as 2.330.0")
        if self.runner_sha256 and not self.runner_version:
            raise ValueError("runner_sha256 is of one version: give runner_version, too")
        for machine, sha256 in self.runner_sha256.items():
            if machine not in ("x86_64", "aarch64"):
                raise ValueError(f"runner_sha256: {machine[:40]!r} is neither x86_64 nor aarch64")
            if not _SHA256.fullmatch(sha256):
                raise ValueError(f"runner_sha256.{machine} is not a sha256 in hexadecimal")


class BudgetSettings(BaseModel):
    """What may be spent in a calendar day or month of UTC."""

    model_config = ConfigDict(extra="forbid")
    usd: Decimal = Field(gt=0, le=1_000_000_000)  # arbitrary: more was not meant
    per: Literal["day", "month"]

    @model_validator(mode="before")
    @classmethod
    def _with_its_period(cls, value: object) -> object:
        """A bare amount could be meant for either."""
        if not isinstance(value, dict):
            raise ValueError("write {usd: 50, per: day} or {usd: 50, per: month}")
        return value


class CiSettings(BaseModel):
    """Which CI runs may come, by what their forge vouches for, and what they may have. The first that fits counts."""

    model_config = ConfigDict(extra="forbid")
    forge: str
    kind: str = ""
    issuer: str = ""
    audience: str = ""
    repositories: tuple[str, ...] = Field(min_length=1)
    refs: tuple[str, ...] = ()
    claims: dict[str, str] = Field(default_factory=dict)
    pull_requests: Literal["refused", "own", "forks"] = "refused"
    owner: str = Field(default="", pattern=r"^[A-Za-z0-9_-]{0,24}$")
    max_usd_per_hour: Decimal = Field(gt=0)
    max_instances: int = Field(ge=1)
    budget: BudgetSettings | None = None
    max_lifetime_h: float = Field(default=12, gt=0, le=LONGEST_S / 3600)
    max_price: Decimal | None = Field(default=None, gt=0)
    gpus: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str, info: ValidationInfo) -> str:
        return one_of(value, (one.kind for one in kinds_of(info) if one.vouching is not None))

    @field_validator("forge", "issuer")
    @classmethod
    def _address(cls, value: str) -> str:
        return checked_address(value)

    @field_validator("repositories")
    @classmethod
    def _named(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """`*` alone would let in whoever has an account at the forge."""
        for one in value:
            if "/" not in one or one.startswith("*"):
                raise ValueError(f"{one!r}: write OWNER/REPOSITORY; the owner cannot be a pattern's beginning")
        return value

    @model_validator(mode="after")
    def _issued(self, info: ValidationInfo) -> CiSettings:
        kinds = kinds_of(info)
        self.kind = self.kind or next(one.kind for one in kinds if one.usual)
        declared = kinds.of(self.kind)
        self.issuer = self.issuer or (declared.vouching.issuer(self.forge) if declared.vouching is not None else "")
        if not self.issuer:
            raise ValueError(f"issuer is missing: {declared.issuer_hint}")
        return self


def kinds_of(info: ValidationInfo) -> Kinds:
    """The context that all settings are read with."""
    found: Kinds | None = info.context
    if found is None:
        raise TypeError("settings of forges are read with the kinds that there are: model_validate(..., context=kinds)")
    return found


def one_of(value: str, known: Iterable[str]) -> str:
    """Raises: ValueError."""
    words = [repr(str(one)) for one in known]
    if repr(value) not in words:
        listed = " or ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
        raise ValueError(f"Input should be {listed}")
    return value


def names(kinds: Iterable[Declared]) -> str:
    """What people call them."""
    return " and ".join(one.name for one in kinds)


def checked_address(value: str) -> str:
    """Raises: ValueError unless it is https, or of this computer."""
    parts = urlsplit(value)
    if value and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment):
        raise ValueError("write https://HOST")
    if parts.username or parts.password:
        raise ValueError("an address holds no name or password")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ValueError("https is needed beyond this computer")
    checked_port(value)
    return value.rstrip("/")


def checked_port(address: str) -> None:
    """Raises: ValueError."""
    try:
        _ = urlsplit(address).port
    except ValueError as error:
        raise ValueError("the port is a number from 1 to 65535") from error
