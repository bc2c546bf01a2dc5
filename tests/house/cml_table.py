"""The table of CML's flags beside ours, and the place in a document where it stands.

It stands between two comments, `<!-- table: cml -->` and `<!-- /table -->`; everything between them is ours.
"""

from __future__ import annotations

import re

from provisioner.cli.commands.cml import COMMANDS, FLAGS

from .pages import table


def tabled(document: str) -> str:
    """The document with its tables written anew."""
    made = {"cml": _flags(), "cml-commands": _commands()}
    return re.sub(
        r"<!-- table: ([\w-]+) -->.*?<!-- /table -->",
        lambda found: f"<!-- table: {found[1]} -->\n{made[found[1]]}\n<!-- /table -->",
        document,
        flags=re.S,
    )


def _flags() -> str:
    rows = []
    for flag in FLAGS:
        default = f"`{flag.default}`" if flag.default else ""
        ours = flag.ours or ("nothing" if flag.to is not None else "none")
        rows.append((f"`{flag.name}`", default, ours, "" if flag.to is not None else "refused", flag.note))
    return table(("CML", "its default", "ours", "", "what is different"), rows)


def _commands() -> str:
    return table(("CML", "ours"), ((f"`cml {name}`", ours) for name, ours in COMMANDS.items()))
