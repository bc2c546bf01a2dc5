"""Computers that somebody already has, reached over SSH: machines on them begin and end, and they themselves stay."""

from .provider import HostsProvider

__all__ = ["HostsProvider"]
