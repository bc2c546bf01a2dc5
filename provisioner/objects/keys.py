"""What a key may look like (O5): relative, without empty, `.` or `..` parts, and nothing that a file system refuses."""

from __future__ import annotations

from provisioner.domain.errors import ObjectsError

# The directory adapter's place for files that are not whole yet.
HIDDEN = ".part"
_LONGEST_PART, _LONGEST_KEY = 255, 1024  # bytes. Source: NAME_MAX of Linux; S3's limit on an object key.


def checked(key: str) -> str:
    """The key itself. Raises: ObjectsError."""
    parts = key.split("/")
    if any(part in ("", ".", "..") for part in parts) or parts[0] == HIDDEN:
        raise ObjectsError(f"not a key: {key[:200]!r}")
    if any(ord(letter) < 32 or letter == "\x7f" or letter == "\\" for letter in key):
        raise ObjectsError(f"not a key: {key[:200]!r}")
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError as error:
        raise ObjectsError(f"not a key: {key[:200]!r}") from error
    if max(sizes) > _LONGEST_PART or sum(sizes) + len(parts) - 1 > _LONGEST_KEY:
        raise ObjectsError(f"key too long: {key[:200]!r}")
    return key


def checked_folder(prefix: str) -> str:
    """A folder of keys without its trailing slash; empty means everything. Raises: ObjectsError."""
    folder = prefix.removesuffix("/")
    return checked(folder) if folder else ""
