"""Which events begin runs that are surely the repository's own. Pure.

What is not known here may be a fork's, whoever signs for the run: GitHub adds events, and some run a fork's code
with the rights and the name of the repository itself.

Source: docs.github.com "Events that trigger workflows", 2026. Those of `OWN` need the right to write, and run what the
repository has. `issue_comment` comes from anybody, about a pull request too; `merge_group` runs what is to be merged.
"""

from __future__ import annotations

OWN = frozenset({"push", "schedule", "workflow_dispatch", "repository_dispatch", "create", "release"})


def fork_by(event: object) -> bool | None:
    """Whether a run of that event is a fork's; None: its forge has to be asked."""
    return False if event in OWN else None
