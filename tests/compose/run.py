"""The whole stack on a docker engine, from empty volumes through a killed worker to a finished job.

Uses the docker, its compose plugin and the engine that this shell uses (PATH, DOCKER_HOST, DOCKER_CONFIG). Official
images that cannot be pulled are replaced by stand-ins under the same names (`standins/`). The last line is one JSON
object; the exit status says whether all held.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2
import openai

from cli.demo.digits import write_digits
from difftune.service import Service
from tests.compose import checks
from tests.compose.engine import Stack, docker, say

_TIMEOUT_S = 900.0
_METHOD = {
    "max_steps": 120,
    "batch_size": 16,
    "checkpoint_every_steps": 10,
    "log_every_steps": 5,
    "retention_set": {"num_images": 32, "num_inference_steps": 5},
}
_BACKUP = ("difftune", "backup", "/backups/monday", "--with-objects")
_RESTORE = ("difftune", "restore", "/backups/monday")
_EVALUATION = {"num_images": 32, "num_inference_steps": 5, "every_steps": None}


class Client:
    """A user outside, who knows the published port and the first key alone."""

    def __init__(self, url: str, key: str) -> None:
        """Links come without our key: they are signed."""
        self.service = Service(url, key)
        self.openai = openai.OpenAI(base_url=f"{url}/v1", api_key=key, http_client=httpx2.Client(trust_env=False))
        headers = {"authorization": f"Bearer {key}"}
        self.http = httpx2.Client(base_url=url, headers=headers, timeout=60, trust_env=False)
        self.store = httpx2.Client(timeout=60, trust_env=False)

    def upload(self, path: Path) -> str:
        """Straight to the store, by a link for the one part."""
        data = path.read_bytes()
        upload = self.openai.uploads.create(
            bytes=len(data), filename=path.name, mime_type="application/zip", purpose="fine-tune"
        )
        asked = self.http.post(f"/v1/uploads/{upload.id}/parts/presign", json={"bytes": len(data)})
        part = asked.raise_for_status().json()
        self.store.put(part["url"], content=data).raise_for_status()
        completed = self.openai.uploads.complete(upload.id, part_ids=[part["id"]])
        assert completed.file is not None
        return completed.file.id

    def download(self, checkpoint: str) -> int:
        """Of a checkpoint, through the public address; its size, once its sha256 is right."""
        path = f"/v1/checkpoints/{checkpoint}/download"
        link = self.http.get(path, params={"format": "diffusers", "redirect": "false"}).raise_for_status().json()
        data = self.store.get(link["url"]).raise_for_status().content
        if hashlib.sha256(data).hexdigest() != link["sha256"]:
            raise AssertionError("the checkpoint's sha256 is another")
        return len(data)


def run_job(stack: Stack, client: Client, folder: Path) -> dict[str, Any]:
    """The demo's job, small, whose worker is killed at its third checkpoint."""
    digits = client.upload(write_digits(folder, seed=0).train)
    body: Any = {"type": "diff_tuning", "diff_tuning": {"hyperparameters": _METHOD}}
    job = client.openai.fine_tuning.jobs.create(
        model="tiny-dit", training_file=digits, method=body, seed=0, extra_body={"evaluation": _EVALUATION}
    )
    begun, events, killed, saved = time.monotonic(), 0, None, 0
    for event in client.service.events(job.id):
        events += 1
        saved += event["type"] == "checkpoint"
        if killed is None and saved == len(("first", "second", "third")):
            killed = kill_the_worker_of(stack)
            say(f"killed the worker {killed[:12]} after {event['message']}")
        if time.monotonic() - begun > _TIMEOUT_S:
            raise AssertionError("the job takes too long")
    ended: Any = client.openai.fine_tuning.jobs.retrieve(job.id)
    if ended.status != "succeeded" or killed is None:
        raise AssertionError(f"the job ended {ended.status}: {ended.error}; killed: {killed}")
    return {
        "id": job.id,
        "status": ended.status,
        "steps": _METHOD["max_steps"],
        "events": events,
        "attempts": [attempt["reason"] for attempt in ended.attempts],
        "recoveries": ended.recoveries,
        "checkpoint_bytes": client.download(ended.fine_tuned_model),
        "seconds": round(time.monotonic() - begun, 1),
    }


def kill_the_worker_of(stack: Stack) -> str:
    """Kill the container in which a trainer runs; its id."""
    for container in stack.service("worker-cpu"):
        if "difftune_core train" in docker("top", container["Id"], "-o", "pid,args"):
            docker("kill", container["Id"])
            return str(container["Id"])
    raise AssertionError("no worker runs a trainer")


def back_up(stack: Stack, folder: Path) -> str:
    """As docs/hosting.md has it, while the stack runs."""
    folder.mkdir()
    as_root(stack, folder, "chown", f"{checks.UID}:{checks.UID}", "/backups")
    return stack.compose("run", "--rm", "--no-TTY", "--volume", f"{folder}:/backups", "migrate", *_BACKUP)


def restore(stack: Stack, folder: Path) -> str:
    """Into a stack whose volumes are new."""
    stack.compose("down", "--volumes", "--timeout", "20", quiet=False)
    said = stack.compose("run", "--rm", "--no-TTY", "--volume", f"{folder}:/backups:ro", "migrate", *_RESTORE)
    stack.compose("up", "--detach", "--wait", quiet=False)
    as_root(stack, folder, "rm", "-rf", "/backups/monday")
    return said


def as_root(stack: Stack, folder: Path, *command: str) -> None:
    """Run a command on the folder of backups, which is the service's user's."""
    docker("run", "--rm", "--user", "0", "--volume", f"{folder}:/backups", stack.service_image, *command)


def test(stack: Stack, folder: Path) -> dict[str, Any]:
    """Everything, in order; what was seen."""
    begun = time.monotonic()
    replaced = stack.provide_images()
    stack.build()
    built = time.monotonic()
    say("starting the stack")
    stack.compose("up", "--detach", "--wait", "--scale", "worker-cpu=2", quiet=False)
    ready = time.monotonic()
    key = stack.exec("api", "cat", "/var/lib/difftune/api-key")
    say("running a job")
    client = Client(stack.url, key)
    job = run_job(stack, client, folder)
    say("backing up")
    backup = back_up(stack, folder / "backups")
    say("looking into the containers")
    faults = [*checks.contained(stack), *checks.secret(stack), *checks.closed(stack)]
    say("stopping")
    stopping = time.monotonic()
    stack.compose("stop", quiet=False)
    stopped = time.monotonic()
    statuses = {c["Name"]: c["State"]["ExitCode"] for c in stack.containers(running=False)}
    faults += [f"{name} ended with {status}" for name, status in statuses.items() if status not in {0, 137, 143}]
    say("restoring into new volumes")
    restored = restore(stack, folder / "backups")
    again: Any = client.openai.fine_tuning.jobs.retrieve(job["id"])
    if client.download(again.fine_tuned_model) != job["checkpoint_bytes"]:
        faults.append("the checkpoint has another size after the restore")
    return {
        "ok": not faults,
        "backup": backup.splitlines()[-1],
        "restored": restored.splitlines()[-1],
        "faults": faults,
        "job": job,
        "stand_ins": replaced,
        "image_mb": stack.image_sizes(),
        "build_s": round(built - begun, 1),
        "up_s": round(ready - built, 1),
        "stop_s": round(stopped - stopping, 1),
    }


def main() -> int:
    """Exit status."""
    given = os.environ.get("PIP_FIND_LINKS", "")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheels", type=Path, default=Path(given) if given and Path(given).is_dir() else None)
    parser.add_argument(
        "--ca", type=Path, default=os.environ.get("PIP_CERT"), help="certificates for pip in the builds"
    )
    parser.add_argument("--keep", action="store_true", help="leave the stack as it is, to look at it")
    arguments = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stack = Stack(f"difftune-test-{os.getpid()}", port, wheels=arguments.wheels, ca=arguments.ca)
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = test(stack, Path(folder))
    except Exception as error:  # noqa: BLE001  # whatever failed, it is told and everything is taken down
        sys.stderr.write(stack.compose("logs", "--no-color", "--tail", "40", check=False))
        found = {"ok": False, "error": f"{type(error).__name__}: {error}"}
    finally:
        if not arguments.keep:
            stack.compose("down", "--volumes", "--remove-orphans", "--timeout", "20", check=False, quiet=False)
    print(json.dumps(found))  # noqa: T201  # the command's output
    return 0 if found["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
