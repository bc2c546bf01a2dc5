"""Where the house's things are, and what of it is ours to check: the files that git knows or would take."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
DOCS = TOP / "docs"


@functools.cache
def files() -> tuple[Path, ...]:
    """Tracked files, and untracked ones that git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=TOP,
        capture_output=True,
        check=True,
    ).stdout
    paths = (TOP / name for name in sorted(set(listed.decode().split("\0"))) if name)
    return tuple(path for path in paths if path.is_file())


def sources(*folders: str) -> list[Path]:
    """Python files under the named top folders."""
    return [path for path in files() if path.suffix == ".py" and path.relative_to(TOP).parts[0] in folders]


def documents() -> list[Path]:
    return [path for path in files() if path.suffix == ".md"]
