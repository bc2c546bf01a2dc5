"""What the base installation takes on disk, byte code left out, by package, and what each is needed by.

Counted is what the distribution requires, directly or not. The tools that built it (hatchling and what that needs) and
the virtual environment's own pip are not.
"""

from __future__ import annotations

import json
import subprocess

from .installed import python, runner
from .measure import say

_LIST = """
import importlib.metadata as m, json, re
def normal(name): return re.sub('[-_.]+', '-', name).lower()
found = {normal(d.metadata['Name']): d for d in m.distributions()}
def needs(d):
    return {normal(re.match('[\\w.-]+', r)[0]) for r in d.requires or () if 'extra ==' not in r} & found.keys()
def size(d):
    paths = [d.locate_file(f) for f in d.files or () if not str(f).endswith('.pyc')]
    stats = [p.stat() for p in paths if p.exists()]
    return sum(s.st_size for s in stats), sum(s.st_blocks * 512 for s in stats)
rows, waiting = {}, [('gpu-runner', '')]
while waiting:
    name, by = waiting.pop(0)
    if name not in rows:
        rows[name] = [*size(found[name]), by]
        waiting += [(n, name) for n in sorted(needs(found[name]))]
print(json.dumps(rows))
"""


def main() -> None:
    runner()
    done = subprocess.run([str(python()), "-I", "-c", _LIST], capture_output=True, text=True, check=True)
    rows: dict[str, tuple[int, int, str]] = json.loads(done.stdout)
    total = sum(size for size, _, _ in rows.values()) / 1e6
    blocks = sum(used for _, used, _ in rows.values()) / 1e6
    say(
        "base installation, without byte code",
        f"{total:.1f} MB in {len(rows)} packages ({blocks:.1f} MB in blocks)",
        "75 MB",
    )
    for name, (size, _, by) in sorted(rows.items(), key=lambda row: -row[1][0])[:14]:
        say(f"  {name}", f"{size / 1e6:.1f} MB, for {by or 'itself'}")


if __name__ == "__main__":
    main()
