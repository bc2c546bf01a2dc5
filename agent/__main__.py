"""`agent.pyz run STATE | respawn STATE | supervise DIR | cuda`: each imports only what it needs."""

from __future__ import annotations

import os
import sys
from typing import Optional


def main(argv: Optional[list[str]] = None) -> int:
    """Exit code of the command. 2: not a command."""
    words = sys.argv[1:] if argv is None else argv
    if len(words) == 2 and words[0] == "supervise":
        from . import supervise

        return supervise.main(words[1])
    if len(words) == 2 and words[0] == "respawn":
        from . import respawn

        return respawn.main(words[1], itself())
    if len(words) == 2 and words[0] == "run":
        from . import run

        return run.main(words[1], itself())
    if words == ["cuda"]:
        from . import cuda

        return cuda.main()
    print("usage: agent.pyz run STATE | respawn STATE | supervise DIR | cuda", file=sys.stderr)
    return 2


def itself() -> list[str]:
    """How this very program is started again."""
    return [sys.executable, "-I", os.path.abspath(sys.argv[0])]


if __name__ == "__main__":
    sys.exit(main())
