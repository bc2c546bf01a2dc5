"""Markdown as a forge would show it: parsed by a parser that is not ours, with GitHub's tables."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from markdown_it import MarkdownIt

_TAG = re.compile(r"<[^>]*>")
_HTML = re.compile(r"</?(details|summary|code)>|<!--.*?-->", re.S)


@dataclass
class Parsed:
    """`tables` by rows of texts; `html` are the pieces of HTML that were let through; `fences` (language, text)."""

    tables: list[list[list[str]]] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    images: list[tuple[str, str]] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    fences: list[tuple[str, str]] = field(default_factory=list)
    html: list[str] = field(default_factory=list)
    text: str = ""

    @property
    def foreign_html(self) -> list[str]:
        """Tags other than our own."""
        return [tag for piece in self.html for tag in _TAG.findall(_HTML.sub("", piece))]


def parse(markdown: str) -> Parsed:
    found, row, kind = Parsed(), list[str](), ""
    for token in MarkdownIt("commonmark", {"html": True}).enable("table").parse(markdown):
        if token.type == "table_open":
            found.tables.append([])
        elif token.type == "tr_open":
            row = []
            found.tables[-1].append(row)
        elif token.type in ("th_open", "td_open", "heading_open"):
            kind = token.type
        elif token.type == "html_block":
            found.html.append(token.content)
        elif token.type == "fence":
            found.fences.append((token.info, token.content))
        elif token.type == "inline":
            text = ""
            for child in token.children or []:
                text += "" if child.type == "html_inline" else child.content
                if child.type == "html_inline":
                    found.html.append(child.content)
                if child.type == "image":
                    found.images.append(("".join(c.content for c in child.children or []), str(child.attrs["src"])))
                if child.type == "link_open":
                    found.links.append(str(child.attrs["href"]))
            found.text += text + "\n"
            if kind == "heading_open":
                found.headings.append(text)
            elif kind:
                row.append(text)
            kind = ""
    return found
