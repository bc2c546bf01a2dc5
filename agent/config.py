"""The agent's folder: its configuration, and where everything it must remember over a kill is kept.

One 0700 folder a machine. `config.json` is written by whoever launched the machine; all the rest is ours.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from . import wire

HANDED_OVER = "handed-over"  # a file in an attempt's folder: no controller looks after its machine
ON_END = ("exit", "poweroff", "self-delete")


class ConfigError(ValueError):
    """config.json is missing or wrong; the message is one line for the console."""


@dataclass(frozen=True)
class Home:
    """Paths below the state folder; `jobs` is a folder beside it, root's own, for what jobs work in where they run as a
    user who may not enter the state folder."""

    path: str
    jobs: str = ""

    def make(self) -> None:
        for folder in (self.path, self.attempts, self.cache):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        for folder in (self.jobs, self.work, self.venvs) if self.jobs else (self.work,):
            os.makedirs(folder, mode=0o711 if self.jobs else 0o700, exist_ok=True)

    @property
    def attempts(self) -> str:
        return os.path.join(self.path, "attempts")

    @property
    def work(self) -> str:
        return os.path.join(self.jobs or self.path, "work")

    @property
    def venvs(self) -> str:
        return os.path.join(self.jobs or self.path, "venvs")

    @property
    def cache(self) -> str:
        return os.path.join(self.path, "cache")

    def file(self, name: str) -> str:
        return os.path.join(self.path, name)


def with_jobs(home: Home, config: wire.AgentConfig) -> Home:
    """The same home, as jobs' user needs it."""
    return Home(home.path, f"{home.path}-jobs") if config.user else home


def load(home: Home) -> wire.AgentConfig:
    """Raises: ConfigError."""
    try:
        with open(home.file("config.json"), "rb") as file:
            config = wire.decode(wire.AgentConfig, file.read())
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"cannot use {home.file('config.json')}: {error}") from error
    if config.on_end not in ON_END:
        raise ConfigError(f"on_end is {config.on_end!r}; it must be one of {', '.join(ON_END)}")
    if not config.urls:
        raise ConfigError("urls is empty: no way to reach a controller")
    return config


def boottime() -> float:
    """Seconds since this boot, time asleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def flush_folder(path: str) -> None:
    """A file's name is on the disk only once its folder is."""
    number = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
