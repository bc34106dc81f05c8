"""Real S3 servers for tests: OpenStack Swift with s3api, and Ceph RGW; both of one node and without copies.

As in `tests.servers`, every process is ended with us, and nothing here knows pytest.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from string import Template

from tests.servers import Server, free_port

BUCKET = "difftune"
REGION = "us-east-1"
SWIFT = Path(
    os.environ.get("DIFFTUNE_TEST_SWIFT")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "difftune" / "swift"
)
_SETPRIV = ["setpriv", "--pdeathsig", "TERM"]
_NEEDED = {
    "swift": ("setpriv", str(SWIFT / "bin" / "swift-proxy-server")),
    "ceph": ("setpriv", "ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph-authtool", "monmaptool"),
}
_SWIFT_CONF = """
[swift-hash]
swift_hash_path_prefix = difftune
swift_hash_path_suffix = difftune
[storage-policy:0]
name = only
default = yes
"""
_RINGS = """
import sys
from swift.common.ring import RingBuilder
for name, port in zip(("account", "container", "object"), sys.argv[1:]):
    builder = RingBuilder(4, 1, 0)
    where = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "d1", "weight": 1}
    builder.add_dev({**where, "replication_ip": "127.0.0.1", "replication_port": int(port)})
    builder.rebalance()
    builder.get_ring().save(f"{name}.ring.gz")
"""
_COMMON = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $port
swift_dir = $folder
devices = $folder/node
mount_check = false
workers = 0
fallocate_reserve = 0
log_level = WARNING
"""
_BACKEND = """
[pipeline:main]
pipeline = $name-server
[app:$name-server]
use = egg:swift#$name
recon_cache_path = $folder/cache
"""
_PROXY = """
object_chunk_size = 1048576
client_chunk_size = 1048576
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck listing_formats s3api tempauth bulk slo symlink proxy-server
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
cors_preflight_allow_origin = *
[filter:tempauth]
use = egg:swift#tempauth
user_lab_app = testing .admin
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
[filter:symlink]
use = egg:swift#symlink
[app:proxy-server]
use = egg:swift#proxy
cors_allow_origin = *
account_autocreate = true
"""


def missing(server: str) -> list[str]:
    """Programs of a server that this machine lacks."""
    return [program for program in _NEEDED[server] if not shutil.which(program)]


class _Process(Server):
    """One process of a store."""

    def __init__(self, folder: Path, command: list[str], environment: dict[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder, environment)
        self.command = command

    def _command(self) -> list[str]:
        return [*_SETPRIV, *self.command]

    def _answers(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class S3Server:
    """A store that speaks S3; `endpoint` is its address once it was started. It keeps its folder between starts."""

    access_key = ""
    secret_key = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.processes: list[_Process] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def settings(self) -> dict[str, str]:
        """What `api.settings.Settings` needs to know, but the store's URL."""
        return {
            "s3_endpoint_url": self.endpoint,
            "s3_region": REGION,
            "s3_access_key_id": self.access_key,
            "s3_secret_access_key": self.secret_key,
        }

    def start(self) -> None:
        """Start what does not run."""
        for process in self.processes:
            process.launch()
        for process in self.processes:
            process.wait()

    def stop(self, number: signal.Signals | None = None) -> None:
        for process in reversed(self.processes):
            process.stop(number)


class SwiftServer(S3Server):
    """Its `If-None-Match: *` is honoured, but not atomic under racing writers."""

    access_key = "lab:app"
    secret_key = "testing"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for name in ("node/d1", "cache"):
            (folder / name).mkdir(parents=True)
        (folder / "swift.conf").write_text(_SWIFT_CONF)
        names = ("account", "container", "object", "proxy")
        self.processes = [self._process(name) for name in names]
        self.processes[-1].port = self.port
        ports = [str(process.port) for process in self.processes[:-1]]
        subprocess.run([SWIFT / "bin" / "python", "-c", _RINGS, *ports], check=True, cwd=folder)
        for name, process in zip(names, self.processes, strict=True):
            text = _COMMON + (_PROXY if name == "proxy" else _BACKEND)
            filled = Template(text).substitute(port=process.port, folder=folder, name=name)
            (folder / f"{name}.conf").write_text(filled)

    def _process(self, name: str) -> _Process:
        command = [str(SWIFT / "bin" / f"swift-{name}-server"), str(self.folder / f"{name}.conf"), "-v"]
        return _Process(self.folder / name, command)


class CephServer(S3Server):
    """Monitor, one storage daemon and the gateway. Its `If-None-Match: *` has one winner in a race."""

    access_key = "labapp"
    secret_key = "testingsecret"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._environment = {**os.environ, "CEPH_CONF": str(folder / "ceph.conf")}
        monitor, second = free_port(), free_port()
        (folder / "ceph.conf").write_text(_ceph_conf(folder, monitor, second, self.port))
        for name in ("mon", "osd", "run", "log"):
            (folder / name).mkdir()
        self._make_keys()
        addresses = f"[v2:127.0.0.1:{monitor},v1:127.0.0.1:{second}]"
        fsid = subprocess.check_output(["ceph-conf", "--lookup", "fsid"], env=self._environment, text=True).strip()
        self._run("monmaptool", "--create", "--clobber", "--addv", "a", addresses, "--fsid", fsid, "monmap")
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", "monmap", "--keyring", "keyring")
        commands = (
            ["ceph-mon", "-i", "a", "-f"],
            ["ceph-osd", "-i", "0", "-f"],
            ["radosgw", "-n", "client.rgw.a", "-f"],
        )
        self.processes = [_Process(folder / command[0], command, self._environment) for command in commands]
        self.processes[0].port, self.processes[1].port, self.processes[2].port = monitor, monitor, self.port

    def start(self) -> None:
        is_new = not (self.folder / "osd" / "keyring").exists() and not (self.folder / "osd" / "block").exists()
        self.processes[0].start()
        if is_new:
            self._run("timeout", "60", "ceph", "osd", "new", uuid := _uuid(), "0")
            self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", uuid)  # the monitor lets no other one boot
            self.processes[0].stop()
        super().start()
        if is_new:
            user = ["--uid=lab", "--display-name=lab", f"--access-key={self.access_key}"]
            self._run("radosgw-admin", "user", "create", *user, f"--secret-key={self.secret_key}")

    def _make_keys(self) -> None:
        caps = {
            "client.admin": ["--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *"],
            "osd.0": ["--cap", "mon", "allow profile osd", "--cap", "osd", "allow *"],
            "client.rgw.a": ["--cap", "mon", "allow rw", "--cap", "osd", "allow rwx"],
        }
        tool = ("ceph-authtool", "keyring", "--gen-key")
        self._run(*tool[:2], "--create-keyring", "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        for name, allowed in caps.items():
            self._run(*tool, "-n", name, *allowed)

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, check=False, cwd=self.folder, env=self._environment, capture_output=True)
        if done.returncode != 0:
            raise RuntimeError(f"{command[:3]}: {done.stderr.decode()[-2000:]}")


def _uuid() -> str:
    return Path("/proc/sys/kernel/random/uuid").read_text().strip()


def _ceph_conf(folder: Path, monitor: int, second: int, port: int) -> str:
    return Template(_CEPH_CONF).substitute(fsid=_uuid(), folder=folder, monitor=monitor, second=second, port=port)


_CEPH_CONF = """
[global]
fsid = $fsid
mon_initial_members = a
mon_host = [v2:127.0.0.1:$monitor,v1:127.0.0.1:$second]
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
auth_allow_insecure_global_id_reclaim = false
keyring = $folder/keyring
public_network = 127.0.0.0/8
ms_bind_ipv6 = false
run_dir = $folder/run
admin_socket = $folder/run/$$name.asok
pid_file = $folder/run/$$name.pid
log_file = $folder/log/$$name.log
mon_cluster_log_file = $folder/log/cluster.log
crash_dir = $folder/log
osd_pool_default_size = 1
osd_pool_default_min_size = 1
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_data_avail_crit = 1
mon_data_avail_warn = 1
mon_max_pg_per_osd = 1000
[mon]
mon_data = $folder/mon
[osd]
osd_data = $folder/osd
osd_objectstore = bluestore
bluestore_block_size = 10737418240
bluestore_block_create = true
bluestore_fsck_on_mount = false
osd_memory_target = 1073741824
bdev_async_discard = false
[client.rgw.a]
rgw_frontends = beast endpoint=127.0.0.1:$port
rgw_thread_pool_size = 64
rgw_enable_usage_log = false
"""
