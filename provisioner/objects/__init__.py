"""The result store behind one port: a plain directory, or any S3, GCS or Azure URL. Imports of SDKs wait for use."""

from .open import open_objects

__all__ = ["open_objects"]
