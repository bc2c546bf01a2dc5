"""Images that jobs leave, as files or inside of Markdown: only those that lie where the job could write.

A link may lead anywhere on the computer that draws the report, and what is shown may be published: what lies outside of
the folder that was looked at is left alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from pathlib import Path
from urllib.parse import unquote

from .found import Found, Picture

LARGEST_PICTURE = 10 * 2**20  # bytes; arbitrary
MOST_PICTURES = 60
PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg"}
_CODE = r"(?<!`)(?P<ticks>`{1,20})(?!`)(?s:.*?)(?<!`)(?P=ticks)(?!`)"
# Bounded, and no parenthesis within another: else a line full of beginnings would be read over and over.
_IMAGE = re.compile(_CODE + r"|!\[[^\]\n]{0,1000}+\]\(<?(?P<target>[^()\s>]++)>?[^()\n]{0,1000}+\)")
_DATA = re.compile(r"data:image/(png|jpeg|gif|webp);base64,([A-Za-z0-9+/=]+)")


def take_picture(found: Found, path: Path, name: str, folder: Path) -> None:
    """Into `found`, or a note on why not."""
    size = path.stat().st_size
    if not within(path, folder):
        found.notes.append(f"{name} is a link that leads out of its folder: it is not shown")
    elif size > LARGEST_PICTURE:
        found.notes.append(f"{name} has {size} bytes, more than {LARGEST_PICTURE}: it is not shown")
    elif len(found.pictures) >= MOST_PICTURES:
        found.notes.append(f"{name} is not shown: {MOST_PICTURES} images are the most")
    else:
        found.pictures.append(Picture(name, path))


def within(path: Path, folder: Path) -> bool:
    """Where it is in the end, whatever links lead there."""
    return path.resolve().is_relative_to(folder.resolve())


def pictures_of(markdown: str, folder: Path) -> list[Picture]:
    """Local images that Markdown shows; those inside of it (data:) are written beside, named by their content."""
    shown = []
    for target in dict.fromkeys(target for _, _, target in image_targets(markdown)):
        path = kept_picture(target, folder, folder, folder)
        if path is not None:
            shown.append(Picture(path.name, path))
    return shown[:MOST_PICTURES]


def kept_picture(target: str, folder: Path, top: Path, aside: Path) -> Path | None:
    """The file behind an image's target, as seen from `folder`; None for what is outside of both `folder` and `top`, or
    no image. One that is inside of the Markdown is written to `aside`."""
    if match := _DATA.fullmatch(target):
        try:
            data = base64.b64decode(match[2], validate=True)
        except binascii.Error:
            return None
        path = aside / f"{hashlib.sha256(data).hexdigest()[:16]}.{match[1]}"
        if not path.exists():
            path.write_bytes(data)
        return path
    if "://" in target or target.startswith(("data:", "//", "#")):
        return None
    path = folder / unquote(target.partition("?")[0])
    fits = path.suffix.lower() in PICTURES and path.is_file() and path.stat().st_size <= LARGEST_PICTURE
    return path if fits and (within(path, folder) or within(path, top)) else None


def image_targets(markdown: str) -> list[tuple[int, int, str]]:
    """(start, end, target) of each image's target in Markdown; what stands in code is text."""
    found = (match for match in _IMAGE.finditer(markdown) if match["target"])
    return [(match.start("target"), match.end("target"), match["target"]) for match in found]
