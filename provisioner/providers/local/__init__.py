"""Machines that are processes on this host: free, immediate, isolated from nothing, and torn down like any other."""

from .provider import LocalProvider

__all__ = ["LocalProvider"]
