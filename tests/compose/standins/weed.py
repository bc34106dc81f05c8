#!/usr/bin/python3
"""`weed server ... -s3.port=P -s3.config=FILE -dir=DIR`, played by Swift's four servers."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

RINGS = {"account": 6201, "container": 6202, "object": 6203}
PROXY = """
[DEFAULT]
bind_ip = 0.0.0.0
bind_port = {port}
swift_dir = {conf}
user = weed
workers = 0
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache listing_formats s3api keys bulk slo symlink versioned_writes
  proxy-server
[filter:cache]
use = egg:swift#memcache
# None listens there: Swift's authentication asks that there is a client, no more.
memcache_servers = 127.0.0.1:1
[filter:keys]
paste.filter_factory = swift_keys:filter_factory
access_key = {access_key}
secret_key = {secret_key}
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
max_upload_part_num = 10000
[filter:slo]
use = egg:swift#slo
max_manifest_segments = 10000
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
"""
STORAGE = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
swift_dir = {conf}
user = weed
devices = {data}
mount_check = false
workers = 0
fallocate_reserve = 0
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
recon_cache_path = /tmp/recon
"""


def main() -> int:
    """Write the configuration below /tmp, start the four, end with the first that ends."""
    given = dict(argument.lstrip("-").partition("=")[::2] for argument in sys.argv[1:])
    conf, data = Path("/tmp/swift"), Path(given["dir"])
    for folder in (conf, Path("/tmp/recon"), data / "d1"):
        folder.mkdir(parents=True, exist_ok=True)
    secret = "[swift-hash]\nswift_hash_path_suffix = difftune\n[storage-policy:0]\nname = only\ndefault = yes\n"
    (conf / "swift.conf").write_text(secret)
    for kind, port in RINGS.items():
        shutil.copy(f"/opt/rings/{kind}.ring.gz", conf)
        text = STORAGE.format(kind=kind, port=port, conf=conf, data=data)
        (conf / f"{kind}.conf").write_text(text)
    identity = json.loads(Path(given["s3.config"]).read_text())["identities"][0]["credentials"][0]
    keys = {"access_key": identity["accessKey"], "secret_key": identity["secretKey"]}
    filters = ["catch_errors", "gatekeeper", "healthcheck", "listing_formats", "bulk", "symlink"]
    more = "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in filters)
    (conf / "proxy.conf").write_text(PROXY.format(port=given["s3.port"], conf=conf, **keys) + more)
    servers = [subprocess.Popen([f"swift-{kind}-server", str(conf / f"{kind}.conf")]) for kind in [*RINGS, "proxy"]]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: [server.terminate() for server in servers])
    return 0 if servers[-1].wait() == -signal.SIGTERM else 1


if __name__ == "__main__":
    sys.exit(main())
