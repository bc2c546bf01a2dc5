"""The job that kill tests run: counts, checkpoints, and can be told from any other run of itself by what it wrote.

It prints one line a step with the attempt's number, keeps its count in the checkpoint folder by renaming into place,
and at the end leaves `result.txt`. A correct run shows every step of its last attempt in order.
"""

from __future__ import annotations

import os
import pathlib
import sys
import time


def main() -> None:
    steps, pause_s = int(sys.argv[1]), float(sys.argv[2])
    folder = pathlib.Path("ckpt")
    folder.mkdir(exist_ok=True)
    mark = folder / "step"
    first = int(mark.read_text()) if mark.exists() else 0
    attempt = os.environ["RUNNER_ATTEMPT"]
    for step in range(first, steps):
        print(f"attempt {attempt} step {step} " + "x" * 100, flush=True)
        part = folder / "step.part"
        part.write_text(str(step + 1))
        part.rename(mark)
        time.sleep(pause_s)
    pathlib.Path("result.txt").write_text("\n".join(map(str, range(steps))))


if __name__ == "__main__":
    main()
