"""Markdown in which other people's words stay words, and that is made to fit by leaving out whole items.

Names go into code, where no forge looks for mentions, references, mathematics or HTML; longer texts into fences.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_BLANK = re.compile(r"[\s\x00-\x1f\x7f\u2028\u2029]+")
_PLAIN = re.compile(r"[^`|\\]*")
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")
_RISKY = re.compile(r"[\\`*_\[\]<>#|~$&@!^{}\"=]|:(?! )|(?<!\d)%")
_BEGINS = re.compile(r"[-+/]|\d+[.)]")  # a list, or one of GitLab's quick actions, where it begins a line
_ODD = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_LONGEST_NAME = 200  # characters; arbitrary


def code(text: str) -> str:
    """Text as code, on one line, in a table or out of it. What a code span cannot hold in a table is spelled out as
    entities, which mean nothing to Markdown."""
    shown = _BLANK.sub(" ", text).strip()
    if len(shown) > _LONGEST_NAME:
        shown = shown[: _LONGEST_NAME - 1] + "…"
    if not shown:
        return ""
    return f"`{shown}`" if _PLAIN.fullmatch(shown) else f"<code>{_spelled(shown)}</code>"


def words(text: str) -> str:
    """Text as text, on one line: what could mean something to Markdown, HTML or a forge is spelled out. @ and # get
    an invisible companion, since forges look for mentions and references in what was rendered."""
    clean = _BLANK.sub(" ", text).strip()
    spelled = _spelled(clean) if _BEGINS.match(clean) else _spelled(clean, _RISKY)
    return spelled.replace("&#64;", "&#64;&#8203;").replace("&#35;", "&#35;&#8203;")


def fence(text: str, language: str = "") -> str:
    """Lines as they are, whatever they are."""
    clean = _ODD.sub("", text)
    longest = max((len(run) for run in re.findall(r"`+", clean)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}{language}\n{clean}\n{marks}"


def _spelled(text: str, which: re.Pattern[str] = _PUNCTUATION) -> str:
    return which.sub(lambda match: f"&#{ord(match[0])};", text)


def image(name: str, url: str) -> str:
    """`url` as it is but for what would end it."""
    target = re.sub(r"[\s<>\"()\\]", lambda match: f"%{ord(match[0]):02X}", url)
    return f"![{words(name)}]({target})"


def row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def head(cells: Sequence[str], numbers_from: int = 1) -> str:
    """A table's head; columns from `numbers_from` on are numbers, and stand to the right."""
    return row(cells) + "\n|" + "".join("---|" if n < numbers_from else "--:|" for n in range(len(cells)))


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with what stands before the items and after them. `rank`: lower ones give way first. `noun` names the
    items; `between` parts them."""

    title: str
    items: Sequence[str] = ()
    before: str = ""
    after: str = ""
    rank: int = 0
    noun: str = "line"
    between: str = "\n"

    def shown(self, count: int) -> str:
        """With the first `count` items, and a word on the others."""
        left = len(self.items) - count
        inner = [self.before, *self.items[:count]] if count and self.before else list(self.items[:count])
        parts = [f"### {self.title}", self.between.join(inner), self.after if count or not self.items else ""]
        if left:
            noun = self.noun if left == 1 else f"{self.noun}s"
            more = " more" if count else ""
            parts.append(f"_{left}{more} {noun} left out: the whole would be longer than the forge takes._")
        return "\n\n".join(part for part in parts if part)


def fit(start: str, sections: Sequence[Section], longest: int) -> str:
    """All of it in at most `longest` characters: the section that matters least loses half of its items, and so on."""
    counts = [len(section.items) for section in sections]
    while True:
        text = "\n\n".join([start, *(one.shown(n) for one, n in zip(sections, counts, strict=True))]) + "\n"
        losing = [(one.rank, n) for n, one in enumerate(sections) if counts[n]]
        if len(text) <= longest or not losing:
            return text
        counts[min(losing)[1]] //= 2
