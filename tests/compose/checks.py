"""What must hold of every container of the running stack. Each check returns what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2

from tests.compose.engine import Stack, docker, service_of

UID = "10001"
ONE_SHOTS = {"init", "migrate"}
DAEMONS = {"db", "redis", "store", "api", "sweep", "worker-cpu", "gateway"}


def contained(stack: Stack) -> list[str]:
    """Users, capabilities, limits, the root file system: as configured and as seen from inside."""
    faults = []
    found = stack.containers(running=False)
    missing = (DAEMONS | ONE_SHOTS) - {service_of(container) for container in found}
    if missing:
        faults.append(f"not there: {', '.join(sorted(missing))}")
    for container in found:
        faults += [f"{service_of(container)}: {fault}" for fault in _settings_of(container)]
        if container["State"]["Running"]:
            faults += [f"{service_of(container)}: {fault}" for fault in _seen_inside(container["Id"])]
    published = {service_of(c): ports for c in found if (ports := _published(c))}
    if set(published) != {"gateway"} or len(published["gateway"]) != 1:
        faults.append(f"published ports: {published}")
    return faults


def secret(stack: Stack) -> list[str]:
    """Passwords: random, in files of mode 0600, and nowhere else that docker shows."""
    faults = []
    script = "cd /run/secrets && stat -c '%n %a %u' * && tail -v -n +1 *"
    texts = {name: stack.exec(name, "sh", "-c", script) for name in ("api", "db", "redis", "store")}
    for name, text in texts.items():
        modes = [line.split() for line in text.splitlines() if line.endswith(f" {UID}")]
        if not modes or any(mode != "600" for _, mode, _ in modes):
            faults.append(f"{name}: modes of the secrets are {modes}")
    values = set(_values(texts))
    if len(values) != _DISTINCT or any(len(value) < _SHORTEST for value in values):
        faults.append(f"{len(values)} secrets, or short ones")
    shown = json.dumps(stack.containers(running=False)) + stack.compose("logs", "--no-color")
    faults += [f"a secret of {len(value)} characters is shown" for value in values if value in shown]
    for container in stack.service("worker-cpu"):
        for pid in docker("exec", container["Id"], "sh", "-c", "ls /proc | grep '^[0-9]'").split():
            environ = docker("exec", container["Id"], "cat", f"/proc/{pid}/environ", check=False)
            faults += [f"a secret is in a process's environment ({pid})" for value in values if value in environ]
    return faults


_DISTINCT = 4  # of database, Redis, and the store's two
_SHORTEST = 20


def closed(stack: Stack) -> list[str]:
    """Nobody gets in without a password: to the database, Redis, the store, the API."""
    faults = []
    for password in ("", "postgres", "difftune", "password"):
        command = f"PGPASSWORD='{password}' psql -w -h 127.0.0.1 -U difftune -d difftune -c 'SELECT 1'"
        if "1 row" in stack.exec("db", "sh", "-c", command, check=False):
            faults.append(f"the database takes the password {password!r}")
    if "NOAUTH" not in stack.exec("redis", "redis-cli", "ping", check=False):
        faults.append("Redis answers without a password")
    with httpx2.Client(base_url=stack.url, trust_env=False) as client:
        expected = {"/v1/files": 401, "/difftune/": 403, "/difftune/any?X-Amz-Signature=none": 403, "/metrics": 404}
        for path, status in expected.items():
            answered = client.get(path).status_code
            if answered not in {status, 400 if "Amz" in path else status}:
                faults.append(f"GET {path} answers {answered}")
        if client.delete("/difftune/any?X-Amz-Signature=none").status_code != httpx2.codes.FORBIDDEN:
            faults.append("DELETE passes the gateway to the store")
    faults += [f"{name} has a way out of the inner network" for name in _with_a_way_out(stack)]
    return faults


def _with_a_way_out(stack: Stack) -> Iterator[str]:
    """Services, but the gateway, in a network that is not internal; how an engine refuses a way out differs."""
    for container in stack.containers():
        networks = container["NetworkSettings"]["Networks"]
        inner = [docker("network", "inspect", "--format", "{{.Internal}}", name) == "true" for name in networks]
        if service_of(container) != "gateway" and not all(inner):
            yield service_of(container)


def _settings_of(container: dict[str, Any]) -> Iterator[str]:
    host, config = container["HostConfig"], container["Config"]
    if config["User"].partition(":")[0] != UID:
        yield f"user {config['User']!r}"
    if not host["ReadonlyRootfs"]:
        yield "the root can be written"
    if host["CapDrop"] != ["ALL"] or host["CapAdd"]:
        yield f"capabilities: without {host['CapDrop']}, with {host['CapAdd']}"
    if "no-new-privileges:true" not in (host["SecurityOpt"] or []):
        yield "may gain privileges"
    if not host["Memory"] or not host["PidsLimit"]:
        yield "no limit of memory or processes"
    if host["LogConfig"]["Config"].get("max-size") is None:
        yield "its log grows without end"
    if host["Privileged"] or any("docker.sock" in (bind or "") for bind in host["Binds"] or []):
        yield "has the engine in its hands"
    if service_of(container) in DAEMONS and host["RestartPolicy"]["Name"] != "unless-stopped":
        yield "is not started again"


def _seen_inside(container_id: str) -> Iterator[str]:
    status = docker("exec", container_id, "cat", "/proc/1/status")
    facts = dict(line.split(":", 1) for line in status.splitlines())
    if set(facts["Uid"].split()) != {UID}:
        yield f"its process runs as {facts['Uid'].split()}"
    if int(facts["CapEff"], 16) or facts["NoNewPrivs"].strip() != "1":
        yield "its process has capabilities"
    probe = "touch /here 2>&1; touch /usr/here 2>&1; true"
    if docker("exec", container_id, "sh", "-c", probe).count("Read-only") != len(("/here", "/usr/here")):
        yield "could write to its root"


def _published(container: dict[str, Any]) -> list[str]:
    return [port for port, to in (container["NetworkSettings"]["Ports"] or {}).items() if to]


def _values(texts: dict[str, str]) -> Iterator[str]:
    """The four secrets as their users hold them."""
    files = {}
    for text in texts.values():
        for part in text.split("==> ")[1:]:
            name, _, content = part.partition(" <==\n")
            files[name] = content.strip()
    credentials = json.loads(files["s3.json"])["identities"][0]["credentials"][0]
    yield from (credentials["accessKey"], credentials["secretKey"])
    yield files["difftune_database_url"].partition("difftune:")[2].partition("@")[0]
    yield files["difftune_broker_url"].partition("://:")[2].partition("@")[0]
