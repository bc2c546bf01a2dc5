"""`python -m tests.house.generate` writes every page and diagram that is made from code; a test compares them.

Each page of docs/reference but `performance.md` is one function of `tests.house.pages`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .cml_table import tabled
from .draw import drawn
from .pages import PAGES
from .places import DOCS


def generated() -> Iterator[tuple[Path, str]]:
    """Every file that is made from code, with the text that it should have."""
    for name, write in PAGES.items():
        yield DOCS / "reference" / name, write()
    architecture = DOCS / "explanation/architecture.md"
    yield architecture, drawn(architecture.read_text())
    from_cml = DOCS / "how-to/from-cml.md"
    yield from_cml, tabled(from_cml.read_text())


def main() -> None:
    for path, text in generated():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"wrote {path.relative_to(DOCS.parent)}")


if __name__ == "__main__":
    main()
