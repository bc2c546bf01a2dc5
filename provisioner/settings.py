"""Settings: one file, `<home>/settings.yaml`, and a documented list of environment variables; parsed once.

CI systems set variables such as RUNNER_NAME, RUNNER_OS and RUNNER_TEMP in every step, so no other variable is read,
whatever its prefix.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import secrets
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from provisioner.domain.errors import InvalidRequest
from provisioner.domain.gpu import parse_gpu
from provisioner.domain.kinds import Kinds
from provisioner.domain.policy import Policy
from provisioner.domain.span import LONGEST_S, too_long
from provisioner.pool_settings import PoolSettings

from .forge_settings import LOOPBACK, CiSettings, ForgeSettings, checked_port

# Name -> what it sets. The reference page is generated from this table; {tokens} are those of each kind of forge.
ENVIRONMENT: Mapping[str, str] = {
    "RUNNER_HOME": "where the embedded controller keeps everything (default ~/.runner)",
    "RUNNER_SERVER": "URL of a controller to talk to instead of the embedded one",
    "RUNNER_TOKEN": "token for RUNNER_SERVER",
    "RUNNER_CA": "file with the certificate authority that RUNNER_SERVER's certificate is checked against",
    "RUNNER_ID_TOKEN": "a GitLab job's own token for RUNNER_SERVER (`id_tokens`), instead of RUNNER_TOKEN",
    "RUNNER_FORGE_TOKEN": "token for the forge, before {tokens}",
    "RUNNER_SECRET_KEY": "key that encrypts secrets in the store (default: a file `key` in the home)",
    "RUNNER_NEW_SECRET_KEY": "key that `runner db rekey` changes to (default: a new one, written to the file `key`)",
    "RUNNER_STORE_URL": "database: sqlite:///PATH (default: runner.db in the home) or postgresql://...",
    "RUNNER_OBJECTS_URL": "object store: a directory (default: objects in the home), s3://, gs:// or az://",
    "RUNNER_DEBUG_CLI": "set to anything: show where an error came from that the command line calls a bug",
    "RUNNER_POLICY_SCALE": "multiplies every time-out of the policy; for tests",
}


_MOST_DAYS = LONGEST_S / 86400
_MOST_USD = Decimal(1_000_000)  # an hour; arbitrary: more was not meant
_MOST_INSTANCES = 100_000  # arbitrary: more was not meant


class LocalSettings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    usd_per_hour: Decimal = Field(default=Decimal(0), ge=0, le=_MOST_USD)
    machines: str = ""

    def folder(self, home: Path) -> Path:
        """Where the local machines are."""
        return Path(self.machines).expanduser().absolute() if self.machines else home / "machines"


class AwsSettings(BaseModel):
    """EC2 machines of one account. A served controller uses it only when `enabled`, with its own environment's
    credentials; an embedded one whenever a command names it, with that command's. Machines dial `public_url`; without
    one they are reached over SSH."""

    model_config = ConfigDict(extra="forbid")
    enabled: bool = False
    profile: str = ""
    regions: tuple[str, ...] = ()
    image: str = ""
    disk_gib: float = Field(default=100, ge=1)
    subnets: dict[str, list[str]] = Field(default_factory=dict)
    security_groups: dict[str, str] = Field(default_factory=dict)
    instance_profile: str = ""
    ssh_from: str = ""
    startup: str = ""
    hard_limit: bool = False
    hard_limit_role: str = ""

    @field_validator("ssh_from")
    @classmethod
    def _a_network(cls, value: str) -> str:
        if value:
            ipaddress.ip_network(value)
        return value

    @model_validator(mode="after")
    def _limited_by_a_role(self) -> AwsSettings:
        role = self.hard_limit_role
        if role and not re.fullmatch(r"arn:[a-z-]+:iam::\d{12}:role/\S+", role):
            raise ValueError("hard_limit_role: write the ARN of a role, arn:aws:iam::ACCOUNT:role/NAME")
        if self.hard_limit and not role:
            raise ValueError("hard_limit needs hard_limit_role, the role under which EventBridge terminates machines")
        return self


class HostSettings(BaseModel):
    """A computer that somebody already has. `runner hosts key` prints the key that it has to let in."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    address: str
    port: int = Field(default=22, ge=1, le=65535)
    user: str = "root"
    host_keys: list[str] = Field(min_length=1)
    gpu: str = "auto"
    slots: int = Field(default=1, ge=1, le=64)
    usd_per_hour: Decimal = Field(default=Decimal(0), ge=0, le=_MOST_USD)
    folder: str = ""

    @field_validator("gpu")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            named = value in ("auto", "none") or parse_gpu(value).name
        except InvalidRequest as error:
            raise ValueError(error.message) from error
        if not named:
            raise ValueError("write auto, none or NAME[:COUNT]")
        return value


class RetentionSettings(BaseModel):
    """Days that each kind of record is kept after its job has ended."""

    model_config = ConfigDict(extra="forbid")
    logs_days: float = Field(default=90, gt=0, le=_MOST_DAYS)
    events_days: float = Field(default=90, gt=0, le=_MOST_DAYS)
    readings_days: float = Field(default=14, gt=0, le=_MOST_DAYS)
    objects_days: float = Field(default=90, gt=0, le=_MOST_DAYS)


class Settings(BaseModel):
    """All of settings.yaml. Every key is optional."""

    model_config = ConfigDict(extra="forbid")
    store_url: str = ""
    objects_url: str = ""
    public_url: str = ""
    max_usd_per_hour: Decimal = Field(default=Decimal(10), ge=0, le=_MOST_USD)
    max_instances: int = Field(default=8, ge=0, le=_MOST_INSTANCES)
    policy_scale: float = Field(default=1.0, gt=0, le=100)
    local: LocalSettings = LocalSettings()
    aws: AwsSettings = AwsSettings()
    hosts: list[HostSettings] = Field(default_factory=list)
    forges: list[ForgeSettings] = Field(default_factory=list)
    ci: list[CiSettings] = Field(default_factory=list)
    pools: list[PoolSettings] = Field(default_factory=list)
    retention: RetentionSettings = RetentionSettings()
    policy: dict[str, float] = Field(default_factory=dict)

    @field_validator("forges")
    @classmethod
    def _each_once(cls, value: list[ForgeSettings]) -> list[ForgeSettings]:
        urls = [one.url for one in value]
        if twice := next((url for url in urls if urls.count(url) > 1), ""):
            raise ValueError(f"{twice} is there twice: write it once")
        return value

    @model_validator(mode="after")
    def _for_somebody(self) -> Settings:
        """What a CI run's token is made out to, else a token for anybody would open this controller; and for something
        that there is."""
        if any(not (one.audience or self.public_url) for one in self.ci):
            raise ValueError("ci needs an audience, or public_url, which is the audience where none is named")
        known = [pool.name for pool in self.pools]
        if lost := next((name for one in self.ci for name in one.pools if name not in known), None):
            raise ValueError(f"ci grants the pool {lost!r}, and `pools:` has {', '.join(known) or 'none'}")
        return self

    @field_validator("public_url")
    @classmethod
    def _reachable(cls, value: str) -> str:
        """Agents send their sessions there."""
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/")):
            raise ValueError("write https://HOST:PORT")
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ValueError("https is needed beyond this computer")
        checked_port(value)
        return value.rstrip("/")

    def of_step(self, lasting: Path) -> Settings:
        """For the own controller of a CI step: a database of its own, machines that outlive its home, and none of what
        goes on for longer than a step."""
        local = self.local.model_copy(update={"machines": str(self.local.folder(lasting))})
        own: dict[str, Any] = {"store_url": "", "objects_url": "", "public_url": "", "hosts": [], "ci": [], "pools": []}
        return self.model_copy(update={**own, "local": local})

    def make_policy(self) -> Policy:
        """Raises: InvalidRequest for a name that the policy does not have."""
        known = {name for name in Policy.__dataclass_fields__ if name.endswith(("_s", "_share", "_bytes"))}
        if unknown := sorted(set(self.policy) - known):
            raise InvalidRequest(f"settings: unknown policy {unknown[0]!r}", hint=f"known: {', '.join(sorted(known))}")
        for name, value in self.policy.items():
            _check_policy(name, value)
        day = 86400.0
        kept = {
            "logs_keep_s": self.retention.logs_days * day,
            "events_keep_s": self.retention.events_days * day,
            "readings_keep_s": self.retention.readings_days * day,
            "objects_keep_s": self.retention.objects_days * day,
        }
        scaled = Policy().scaled(self.policy_scale)
        named: dict[str, Any] = {**kept, **self.policy}
        values = {name: named.get(name, getattr(scaled, name)) for name in Policy.__dataclass_fields__}
        values |= {"max_instances": self.max_instances, "max_usd_per_hour": self.max_usd_per_hour}
        return Policy(**values)


def _check_policy(name: str, value: float) -> None:
    """A pause or time-out of nothing would be a loop without end; only where nothing is the usual may it be nothing.

    Raises: InvalidRequest."""
    if not (value > 0 or (value == 0 and not getattr(Policy(), name))):
        raise InvalidRequest(f"settings: policy.{name}: {value:g} is not above zero")
    if name.endswith("_s") and (said := too_long(value)):
        raise InvalidRequest(f"settings: policy.{name}: {said}")
    if name.endswith("_share") and value > 1:
        raise InvalidRequest(f"settings: policy.{name}: {value:g} is more than all of it, 1")


def load(home: Path, environment: Mapping[str, str], kinds: Kinds) -> Settings:
    """The file, then the environment over it; `kinds` of forges that it may speak of.

    Raises: InvalidRequest naming file, line and key."""
    path = home / "settings.yaml"
    raw = _read_yaml(path) if path.exists() else {}
    over = {
        "store_url": environment.get("RUNNER_STORE_URL"),
        "objects_url": environment.get("RUNNER_OBJECTS_URL"),
        "policy_scale": environment.get("RUNNER_POLICY_SCALE"),
    }
    try:
        return Settings.model_validate(raw | {key: value for key, value in over.items() if value}, context=kinds)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise InvalidRequest(f"{path}: {where}: {message}", hint="see the settings reference") from error


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    from provisioner import plain_yaml

    try:
        raw = plain_yaml.loads(path.read_text()) or {}
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path}: not text in UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        what = "" if isinstance(error, plain_yaml.Twice) else "not YAML: "
        raise InvalidRequest(f"{path}{line}: {what}{getattr(error, 'problem', error)}") from error
    if not isinstance(raw, dict):
        raise InvalidRequest(f"{path}: expected keys and values", hint="see the settings reference")
    return raw


def home_folder(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("RUNNER_HOME") or Path.home() / ".runner").expanduser().absolute()


def secret_key(home: Path, environment: Mapping[str, str]) -> bytes:
    """32 bytes, from RUNNER_SECRET_KEY (16 characters or more) or the file `key`, which is made when it is missing."""
    text = environment.get("RUNNER_SECRET_KEY", "")
    if not text:
        path = home / "key"
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(32))
        except FileExistsError:
            pass
        text = path.read_text().strip()
    return secret_key_of(text)


def secret_key_of(text: str) -> bytes:
    """The 32 bytes behind a key's text. Raises: InvalidRequest when it is too short to be one."""
    if len(text) < 16:
        raise InvalidRequest(
            "the secret key is shorter than 16 characters", hint="set RUNNER_SECRET_KEY to a longer one"
        )
    return hashlib.sha256(text.encode()).digest()
