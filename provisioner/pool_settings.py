"""Pools as the settings file has them: `pools:`, a list. What is wrong is named with its place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from provisioner.domain.errors import InvalidRequest
from provisioner.domain.forge import Site
from provisioner.domain.gpu import parse_gpu
from provisioner.domain.job import MarketPolicy, Need
from provisioner.domain.kinds import Kinds
from provisioner.domain.pools import Pool, Window
from provisioner.domain.span import parse_span, too_long

from .forge_settings import kinds_of, names, one_of

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = re.compile(r"([01]?\d|2[0-4]):([0-5]\d)")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:=/@+-]{0,99}")
_DAY_MIN = 24 * 60


def _seconds(value: object) -> float:
    try:
        seconds = parse_span(value)
    except InvalidRequest as error:
        raise ValueError(error.line) from error
    if said := too_long(seconds):
        raise ValueError(said)
    return seconds


def _minutes(value: object) -> int:
    """YAML itself reads 18:00 without quotes as a number to the base of 60, which is the minutes already."""
    if isinstance(value, int) and not isinstance(value, bool):
        minutes = value
    elif isinstance(value, str) and (found := _TIME.fullmatch(value.strip())):
        minutes = int(found[1]) * 60 + int(found[2])
    else:
        raise ValueError(f'{value!r} is not a time; write "08:00"')
    if not 0 <= minutes <= _DAY_MIN:
        raise ValueError(f'{value!r} is not a time of the day; write "08:00"')
    return minutes


def _days(value: object) -> list[int]:
    words = [str(word).strip().lower() for word in (value if isinstance(value, list) else str(value).split(","))]
    found = []
    for word in words:
        first, _, last = word.partition("-")
        if first not in _DAYS or (last or first) not in _DAYS:
            raise ValueError(f"{word!r} is not a day; write mon-fri, or sat,sun")
        begin, end = _DAYS.index(first), _DAYS.index(last or first)
        found += [day % 7 for day in range(begin, end + 1 if end >= begin else end + 8)]
    return found


Seconds = Annotated[float, BeforeValidator(_seconds)]
Minutes = Annotated[int, BeforeValidator(_minutes)]
Days = Annotated[list[int], BeforeValidator(_days)]


class WindowSettings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    days: Days = Field(default_factory=lambda: list(range(7)))
    begins: Minutes = Field(alias="from")
    ends: Minutes = Field(alias="to")
    timezone: str = "UTC"

    @field_validator("timezone")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            return ZoneInfo(value).key
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"{value!r} is not a time zone; write Europe/Berlin") from error

    @model_validator(mode="after")
    def _lasts(self) -> WindowSettings:
        if self.begins % _DAY_MIN == self.ends % _DAY_MIN and self.ends - self.begins != _DAY_MIN:
            raise ValueError("a window has to last; write 00:00 to 24:00 for the whole day")
        return self


class ResourceSettings(BaseModel):
    """What a runner's machine has to have, as in a job file."""

    model_config = ConfigDict(extra="forbid")
    gpu: str = ""
    cpus: int = Field(default=0, ge=0)
    memory: float = Field(default=0, ge=0)
    disk: float = Field(default=0, ge=0)
    market: MarketPolicy = MarketPolicy.SPOT_FIRST
    provider: tuple[str, ...] | str = ()
    region: tuple[str, ...] | str = ()
    instance_type: str = ""
    max_price: Decimal | None = Field(default=None, gt=0)
    image: str = ""

    @field_validator("gpu")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            if value:
                parse_gpu(value)
        except InvalidRequest as error:
            raise ValueError(error.line) from error
        return value

    def need(self) -> Need:
        return Need(
            gpu=parse_gpu(self.gpu) if self.gpu else None,
            cpus=self.cpus,
            memory_gib=self.memory,
            disk_gib=self.disk,
            market=self.market,
            providers=_words(self.provider),
            regions=_words(self.region),
            instance_type=self.instance_type,
            max_price=self.max_price,
            image=self.image,
        )


class PoolSettings(BaseModel):
    """Runners that are there for whatever job comes."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")
    sites: list[str] = Field(min_length=1)
    forge: str = ""
    labels: list[str] = Field(min_length=1, max_length=100)
    resources: ResourceSettings = ResourceSettings()
    max: int = Field(ge=0)
    min_idle: int = Field(default=0, ge=0)
    per_repository: int | None = Field(default=None, ge=1)
    idle_timeout: Seconds = 600.0
    max_lifetime: Seconds | None = None
    schedule: list[WindowSettings] = Field(default_factory=list)
    forks: Literal["never", "allow"] = "never"
    group: str = ""
    scale_set: bool = False

    @field_validator("forge")
    @classmethod
    def _kind(cls, value: str, info: ValidationInfo) -> str:
        return one_of(value, ("", *(one.kind for one in kinds_of(info))))

    @field_validator("labels")
    @classmethod
    def _usable(cls, value: list[str]) -> list[str]:
        for label in value:
            if not _LABEL.fullmatch(label):
                raise ValueError(f"{label[:120]!r} is not a label; use letters, digits and _.:=/@+-")
        return list(dict.fromkeys(value))

    @model_validator(mode="after")
    def _consistent(self) -> PoolSettings:
        if self.min_idle > self.max:
            raise ValueError(f"min_idle of {self.min_idle} is more than max of {self.max}")
        if self.min_idle and len(self.sites) > 1:
            raise ValueError("min_idle needs one site: name their owner instead, or make a pool for each")
        if self.schedule and not self.min_idle:
            raise ValueError("a schedule says when min_idle are kept; give min_idle, or leave it out")
        if self.max_lifetime is not None and self.max_lifetime <= 0:
            raise ValueError("max_lifetime has to be above zero")
        if self.scale_set and (len(self.sites) > 1 or len(self.labels) > 1):
            raise ValueError("a scale set is of one site and has one label, which is its name")
        return self

    def pool(self, kinds: Kinds, hosts: Mapping[str, str]) -> Pool:
        """`hosts` of forges that the settings name elsewhere: host, or host/path -> kind. Raises: InvalidRequest."""
        sites = tuple(dict.fromkeys(self._site(url, kinds, hosts) for url in self.sites))
        if self.scale_set and not kinds.of(sites[0].kind).scale_sets:
            able = names(one for one in kinds if one.scale_sets)
            raise InvalidRequest(
                f"settings: pools: {self.name}: only {able} has scale sets", hint="leave scale_set out"
            )
        return Pool(
            name=self.name,
            sites=sites,
            labels=tuple(self.labels),
            need=self.resources.need(),
            max=self.max,
            min_idle=self.min_idle,
            per_repository=self.per_repository,
            idle_timeout_s=self.idle_timeout,
            max_lifetime_s=self.max_lifetime,
            windows=tuple(Window(frozenset(w.days), w.begins, w.ends, w.timezone) for w in self.schedule),
            forks=self.forks == "allow",
            group=self.group,
            scale_set=self.scale_set,
        )

    def _site(self, url: str, kinds: Kinds, hosts: Mapping[str, str]) -> Site:
        host = url.split("://", 1)[-1].split("/", 1)[0]
        try:
            return kinds.site(url, {**hosts, **({host: self.forge} if self.forge else {})})
        except InvalidRequest as error:
            raise InvalidRequest(f"settings: pools: {self.name}: {error.message}", hint=error.hint) from error


def make_pools(settings: list[PoolSettings], kinds: Kinds, hosts: Mapping[str, str] | None = None) -> tuple[Pool, ...]:
    """Raises: InvalidRequest."""
    names = [one.name for one in settings]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise InvalidRequest(f"settings: two pools are called {twice!r}", hint="give each a name of its own")
    pools = tuple(one.pool(kinds, hosts or {}) for one in settings)
    for pool in pools:
        _check_alone(pool, pools)
    return pools


def _check_alone(pool: Pool, pools: Sequence[Pool]) -> None:
    """GitHub gives a set's jobs to its runners alone: those of another pool would wait for them in vain.

    Raises: InvalidRequest."""
    mine = {label.lower() for label in pool.labels}
    for other in pools if pool.scale_set else ():
        if other is not pool and mine & {label.lower() for label in other.labels} and _meet(pool, other):
            raise InvalidRequest(
                f"settings: pools: {other.name} has the label of the scale set of {pool.name}",
                hint="give the scale set a label of its own",
            )


def _meet(one: Pool, other: Pool) -> bool:
    """Whether a job could be of a site of both."""
    pairs = [(a, b) for a in one.sites for b in other.sites if a.base == b.base]
    paths = [(f"{a.path}/".lower().lstrip("/"), f"{b.path}/".lower().lstrip("/")) for a, b in pairs]
    return any(a.startswith(b) or b.startswith(a) for a, b in paths)


def _words(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
