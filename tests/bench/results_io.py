"""Results up and down through an S3 server, with rclone beside it on the same files in the same run.

Up: from a job's last line to its attempt's end, so that hashing, manifest and confirmation are in it. Down: the whole
`runner pull` or `rclone copy` process. The server is Ceph's gateway, started here; rclone is the one on the PATH.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from provisioner.cli.client import Client
from tests.fakes import s3

from .home import Installed, WithExtras, installed
from .measure import say

BUCKET, RCLONE_BUCKET = "bench-ours", "bench-rclone"
SETS = {"1 GiB file": (1, 2**30), "5,000 x 16 KiB": (5000, 16 * 2**10)}
_MAKE = """
import os, sys, time
count, size = int(sys.argv[1]), int(sys.argv[2])
os.makedirs('out')
for n in range(count):
    with open(f'out/{n:05d}', 'wb') as file:
        for _ in range(0, size, 2**24): file.write(os.urandom(min(size, 2**24)))
print(time.time(), flush=True)
"""


def main() -> None:
    if reason := s3.ceph_missing() or ("" if shutil.which("rclone") else "no rclone on the PATH"):
        say("results up and down", f"skipped: {reason}")
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, s3.ceph(Path(folder) / "ceph") as server:
        for bucket in (BUCKET, RCLONE_BUCKET):
            server.make_bucket(bucket)
        with server.in_environment(), installed(kind=WithExtras) as home:
            names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
            home.extra |= {name: os.environ[name] for name in names} | {"RUNNER_OBJECTS_URL": f"s3://{BUCKET}/b"}
            for what, (count, size) in SETS.items():
                _one(home, server, Path(folder), what, count, size)


def _one(home: Installed, server: s3.Server, folder: Path, what: str, count: int, size: int) -> None:
    script = [sys.executable, "-c", _MAKE, str(count), str(size)]
    job = home.submit("--no-workdir", "--output", "out/**", "--", *script)
    client = Client(f"unix:{home.home / 'control.sock'}")
    while (shown := client.get(f"/jobs/{job}"))["phase"] != "done":
        time.sleep(0.5)  # asking takes time from what is measured
    (attempt,) = shown["attempts_list"]
    wrote_at = float(home.run("logs", job).stdout)
    up_s = datetime.fromisoformat(attempt["ended_at"]).timestamp() - wrote_at
    pulled = folder / f"ours-{count}"
    began = time.perf_counter()
    home.run("pull", job, str(pulled), timeout_s=300)
    down_s = time.perf_counter() - began
    assert sum(file.stat().st_size for file in pulled.glob("out/*")) == count * size
    rclone_up_s = _rclone(server, str(pulled / "out"), f":s3:{RCLONE_BUCKET}/{count}")
    rclone_down_s = _rclone(server, f":s3:{RCLONE_BUCKET}/{count}", str(folder / f"theirs-{count}"))
    for way, ours_s, theirs_s in (("up", up_s, rclone_up_s), ("down", down_s, rclone_down_s)):
        value = f"{ours_s:.1f} s, rclone {theirs_s:.1f} s ({theirs_s / ours_s:.2f} x as fast)"
        say(f"{what} {way}", value, "as fast as rclone")


def _rclone(server: s3.Server, source: str, target: str) -> float:
    flags = {
        "--s3-provider": "Ceph",
        "--s3-endpoint": server.endpoint,
        "--s3-access-key-id": server.access_key,
        "--s3-secret-access-key": server.secret_key,
        "--transfers": "16",
    }
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    words = [word for pair in flags.items() for word in pair]
    began = time.perf_counter()
    subprocess.run(["rclone", "copy", "--config", os.devnull, *words, source, target], env=environment, check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
