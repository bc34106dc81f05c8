"""`python -m benchmarks.api`: a thousand listeners of one job, and what a status request costs beside a bare answer.

The listeners must get every event, first and last within 1 s of each other at the median, while statuses are answered
within 0.5 s at the median. A status's CPU time is measured side by side, in turns, with that of a bare uvicorn answer
of the same size: the ratio must be 0.15 at least. Prints one JSON line; the exit status is 1 if any of this is not so.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from api.jobs import events
from api.jobs.models import Job
from api.keys import service as keys
from benchmarks.nodes import TENANT, Cluster, environment_of, images
from tests.servers import free_port

MAX_SPREAD_S = 1.0
MAX_STATUS_S = 0.5
MIN_RATIO = 0.15
_EVENTS = 40
_EVENT_S = 0.25
_CLIENTS = 8
_ROUNDS = 4
_READY_S = 60.0
_ROOT = Path(__file__).parents[1]
_BARE = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
body = {"text": "x" * int(sys.argv[2])}
async def answer(_):
    return JSONResponse(body)
app = Starlette(routes=[Route("/bare", answer), Route("/healthz", answer)])
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
"""


@contextmanager
def server(command: list[str], environment: dict[str, str], port: int, log: Path) -> Iterator[int]:
    """Run a server for a block, from its first answer on; yield the process's id."""
    with log.open("ab") as out, subprocess.Popen(command, env=environment, cwd=_ROOT, stdout=out, stderr=out) as child:
        try:
            deadline = time.monotonic() + _READY_S
            while True:
                try:
                    httpx2.get(f"http://127.0.0.1:{port}/healthz", timeout=1).raise_for_status()
                    break
                except httpx2.HTTPError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)
            yield child.pid
        finally:
            child.kill()


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def request(path: str, token: str) -> bytes:
    """A GET as bytes: the client must cost next to nothing."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


async def ask(port: int, sent: bytes, count: int) -> int:
    """Ask so often on one connection; bytes of the last body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    length = 0
    for _ in range(count):
        writer.write(sent)
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise RuntimeError(head.decode())
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
    writer.close()
    return length


async def cost_ms(port: int, pid: int, sent: bytes, count: int) -> float:
    """Milliseconds of the server's CPU for one answer, with several clients."""
    await ask(port, sent, 50)
    before = cpu_s(pid)
    await asyncio.gather(*(ask(port, sent, count // _CLIENTS) for _ in range(_CLIENTS)))
    return 1000 * (cpu_s(pid) - before) / (count // _CLIENTS * _CLIENTS)


async def listen(port: int, sent: bytes, arrivals: dict[int, list[float]], begun: asyncio.Event) -> int:
    """Follow to the end, noting when each event came; how many came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    writer.write(sent)
    count = 0
    while line := await reader.readline():
        if line.startswith(b"id: "):
            arrivals[int(line.rpartition(b"_")[2])].append(time.monotonic())
            count += 1
            begun.set()
        elif line == b"0\r\n":  # the last chunk
            break
    writer.close()
    return count


async def listened(port: int, job_id: str, token: str, cluster: Cluster, listeners: int) -> dict[str, Any]:
    """A thousand listen while events come and statuses are asked."""
    arrivals: dict[int, list[float]] = defaultdict(list)
    path = f"/v1/fine_tuning/jobs/{job_id}"
    follow = request(f"{path}/events?stream=true", token)
    tasks, all_begun = [], [asyncio.Event() for _ in range(listeners)]
    for number, begun in enumerate(all_begun):
        tasks.append(asyncio.create_task(listen(port, follow, arrivals, begun)))
        if number % 50 == 0:
            await asyncio.sleep(0.02)
    async with asyncio.timeout(_READY_S):
        await asyncio.gather(*(begun.wait() for begun in all_begun))
    statuses: list[float] = []
    for number in range(_EVENTS):
        began = time.monotonic()
        await asyncio.to_thread(say, cluster, job_id, f"event {number}")
        asked = time.monotonic()
        await ask(port, request(path, token), 1)
        statuses.append(time.monotonic() - asked)
        await asyncio.sleep(max(0.0, _EVENT_S - (time.monotonic() - began)))
    headers = {"authorization": f"Bearer {token}"}
    await asyncio.to_thread(httpx2.post, f"http://127.0.0.1:{port}{path}/cancel", headers=headers, timeout=60)
    counts = await asyncio.gather(*tasks)
    spreads = [max(times) - min(times) for number, times in sorted(arrivals.items())[3:]]
    return {
        "listeners": listeners,
        "lost": sum(len(arrivals) - count for count in counts),
        "spread_median_s": round(statistics.median(spreads), 3),
        "spread_max_s": round(max(spreads), 3),
        "status_median_s": round(statistics.median(statuses), 3),
        "status_max_s": round(max(statuses), 3),
    }


def say(cluster: Cluster, job_id: str, message: str) -> None:
    """An event, as a worker writes it."""
    with cluster.database.write() as session:
        events.append(session, session.get_one(Job, job_id), "message", message)


async def compared(api: tuple[int, int], bare: tuple[int, int], sent: bytes, count: int) -> dict[str, Any]:
    """A status beside a bare answer, in turns."""
    plain = b"GET /bare HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    ours, theirs = [], []
    for _ in range(_ROUNDS):
        ours.append(await cost_ms(*api, sent, count))
        theirs.append(await cost_ms(*bare, plain, 4 * count))
    mine, other = statistics.median(ours), statistics.median(theirs)
    return {"status_ms": round(mine, 3), "bare_ms": round(other, 3), "ratio": round(other / mine, 3)}


def measured(folder: Path, listeners: int, count: int) -> dict[str, Any]:
    """Measure both on a service of its own without workers."""
    cluster = Cluster(folder, port=free_port())
    job_id = cluster.submit(cluster.dataset(images()), {})
    with cluster.database.write() as session:
        _, token = keys.create(session, tenant_id=TENANT, name="benchmark")
    status = request(f"/v1/fine_tuning/jobs/{job_id}", token)
    port, bare_port = cluster.settings.port, free_port()
    environment, log = environment_of(cluster.settings), folder / "servers.log"
    with server([sys.executable, "-m", "api"], environment, port, log) as api_pid:
        size = asyncio.run(ask(port, status, 1))
        bare = [sys.executable, "-c", _BARE, str(bare_port), str(size)]
        with server(bare, environment, bare_port, log) as bare_pid:
            cost = asyncio.run(compared((port, api_pid), (bare_port, bare_pid), status, count))
        heard = asyncio.run(listened(port, job_id, token, cluster, listeners))
    cluster.database.close()
    return {"status": cost, "stream": heard}


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.api", description=__doc__)
    parser.add_argument("--listeners", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=1000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder), asked.listeners, asked.requests)
    stream, status = found["stream"], found["status"]
    ok = stream["lost"] == 0 and stream["spread_median_s"] < MAX_SPREAD_S
    ok = ok and stream["status_median_s"] < MAX_STATUS_S and status["ratio"] >= MIN_RATIO
    sys.stdout.write(json.dumps({"benchmark": "api", "cores": os.cpu_count(), "ok": ok, **found}) + "\n")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
