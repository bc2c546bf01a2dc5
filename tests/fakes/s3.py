"""Real S3 servers on loopback for tests: moto's for speed, Ceph's gateway because it is nobody's imitation.

Each starter is a context manager that yields a `Server`, and ends every process that it started.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .ports import free_port

CEPH_PROGRAMS = ("radosgw", "radosgw-admin", "ceph-mon", "ceph-osd", "ceph-mgr", "ceph", "monmaptool", "uuidgen")
CEPH_PACKAGES = "radosgw ceph-mon ceph-osd ceph-mgr ceph-common uuid-runtime"


@dataclass(frozen=True)
class Server:
    """Where it listens, and the one account that it knows."""

    endpoint: str
    access_key: str = "test"
    secret_key: str = "testtest"

    @contextlib.contextmanager
    def in_environment(self) -> Iterator[None]:
        """SDKs made inside find this server and nothing else of the machine's own set-up."""
        wanted = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        unwanted = ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL_S3")
        before = {name: os.environ.get(name) for name in (*wanted, *unwanted)}
        os.environ.update(wanted)
        for name in unwanted:
            os.environ.pop(name, None)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value

    def make_bucket(self, name: str) -> None:
        import boto3
        from botocore.config import Config

        with self.in_environment():
            client = boto3.client("s3", endpoint_url=self.endpoint, config=Config(s3={"addressing_style": "path"}))
            client.create_bucket(Bucket=name)


@contextlib.contextmanager
def moto(folder: Path) -> Iterator[Server]:
    port = free_port()
    with (folder / "moto.log").open("wb") as log:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _until_answers(f"http://127.0.0.1:{port}/moto-api/data.json", 30.0)
        yield Server(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(10)


def ceph_missing() -> str:
    """Why Ceph cannot be started here; empty when it can."""
    missing = [program for program in CEPH_PROGRAMS if shutil.which(program) is None]
    return f"no {', '.join(missing)}: apt-get install {CEPH_PACKAGES}" if missing else ""


@contextlib.contextmanager
def ceph(folder: Path) -> Iterator[Server]:
    """One monitor, one manager, one OSD keeping objects in memory, one gateway."""
    for name in ("mon", "mgr", "osd", "rgw", "run", "log"):
        (folder / name).mkdir(parents=True)
    ports = [free_port() for _ in range(3)]
    fsid, config = str(uuid.uuid4()), folder / "ceph.conf"
    config.write_text(_ceph_config(folder, fsid, ports))
    try:
        _start_ceph(folder, config, fsid, ports)
        _until_answers(f"http://127.0.0.1:{ports[2]}", 60.0)
        _ceph(config, "radosgw-admin", "user", "create", "--uid=t", "--display-name=t", "--access-key=test",
              "--secret-key=testtest")  # fmt: skip
        yield Server(f"http://127.0.0.1:{ports[2]}")
    finally:
        _stop_ceph(folder)


def _start_ceph(folder: Path, config: Path, fsid: str, ports: Sequence[int]) -> None:
    map_file = str(folder / "monmap")
    address = f"[v2:127.0.0.1:{ports[0]},v1:127.0.0.1:{ports[1]}]"
    subprocess.run(
        ["monmaptool", "--create", "--addv", "a", address, "--fsid", fsid, map_file], check=True, capture_output=True
    )
    _ceph(config, "ceph-mon", "--mkfs", "-i", "a", "--monmap", map_file)
    _ceph(config, "ceph-mon", "-i", "a")
    _ceph(config, "ceph-mgr", "-i", "x")
    osd = str(uuid.uuid4())
    _ceph(config, "ceph", "osd", "create", osd)
    _ceph(config, "ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
    _ceph(config, "ceph-osd", "-i", "0")
    _ceph(config, "radosgw", "-n", "client.rgw.a")


def _ceph(config: Path, program: str, *words: str) -> None:
    """Daemons go to the background by themselves, but keep what they were given as standard output."""
    with (config.parent / "starter.log").open("ab") as log:
        subprocess.run(
            [program, "-c", str(config), *words],
            check=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _stop_ceph(folder: Path) -> None:
    """In reverse order of need; the OSD is slow to leave, and holds nothing that matters."""
    for name in ("client.rgw.a", "mgr.x", "osd.0", "mon.a"):
        with contextlib.suppress(OSError, ValueError):
            number = int((folder / "run" / f"{name}.pid").read_text())
            os.kill(number, signal.SIGKILL)


def _ceph_config(folder: Path, fsid: str, ports: Sequence[int]) -> str:
    """No authentication inside the cluster, loopback only, one copy of everything."""
    lines = {
        "fsid": fsid,
        "mon_initial_members": "a",
        "mon_host": f"[v2:127.0.0.1:{ports[0]}/0,v1:127.0.0.1:{ports[1]}/0]",
        **{f"{which}_addr": "127.0.0.1" for which in ("public", "cluster", "osd_heartbeat")},
        "ms_bind_ipv6": "false",
        **{
            f"auth_{which}": "none"
            for which in ("cluster_required", "service_required", "client_required", "supported")
        },
        # With authentication off the gateway hangs unless these allow plain checksums.
        "ms_mon_client_mode": "crc",
        "ms_mon_service_mode": "crc",
        "mgr_initial_modules": "",
        "mgr_modules": "",
        "osd_pool_default_size": "1",
        "osd_pool_default_min_size": "1",
        "osd_pool_default_pg_num": "8",
        "osd_pool_default_pgp_num": "8",
        "osd_crush_chooseleaf_type": "0",
        "mon_allow_pool_size_one": "true",
        "mon_warn_on_pool_no_redundancy": "false",
        "mon_pg_warn_min_per_osd": "0",
        "mon_data_avail_crit": "1",
        "mon_data_avail_warn": "2",
        "run_dir": f"{folder}/run",
        "admin_socket": f"{folder}/run/$name.asok",
        "log_file": f"{folder}/log/$name.log",
        "pid_file": f"{folder}/run/$name.pid",
        **{f"{which}_data": f"{folder}/{which}" for which in ("mon", "mgr", "osd", "rgw")},
        "osd_objectstore": "memstore",
        "memstore_device_bytes": str(8 * 2**30),
        "osd_memory_target": str(2**30),
        # Without tcp_nodelay each call takes 48 ms.
        "rgw_frontends": f"beast endpoint=127.0.0.1:{ports[2]} tcp_nodelay=1",
        "rgw_enable_apis": "s3,admin",
        "rgw_enable_usage_log": "false",
        "rgw_gc_obj_min_wait": "1",
        "rgw_gc_processor_period": "30",
        "rgw_thread_pool_size": "64",
    }
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in lines.items())


def _until_answers(url: str, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
