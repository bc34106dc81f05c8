"""Progress bars of several jobs, fed by their event streams (server-sent events)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

_READ_TIMEOUT_S = 60.0  # the server sends a comment at least every 15 s
_RETRIES = 20


def stream_events(http: httpx2.Client, job_id: str) -> Iterator[dict[str, Any]]:
    """Events of a job from its first to its last; reconnects where it was cut, by `Last-Event-ID`."""
    last_id: str | None = None
    for _ in range(_RETRIES):
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        url = f"/v1/fine_tuning/jobs/{job_id}/events"
        try:
            with http.stream("GET", url, headers=headers, timeout=_READ_TIMEOUT_S) as response:
                response.raise_for_status()
                for line in response.iter_lines():
                    if line.startswith("data:"):
                        event: dict[str, Any] = json.loads(line.removeprefix("data:"))
                        last_id = event["id"]
                        yield event
                return
        except httpx2.TransportError:
            continue
    raise RuntimeError(f"the event stream of {job_id} broke {_RETRIES} times")


def follow(http: httpx2.Client, jobs: dict[str, str], console: Console) -> None:
    """Show a bar for each job (name -> id) until all streams end."""
    columns = (TextColumn("{task.description:34}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bars = {name: progress.add_task(f"{name}: queued", total=None) for name in jobs}
        threads = [
            threading.Thread(target=_follow_one, args=(http, job_id, name, progress, bars[name]), daemon=True)
            for name, job_id in jobs.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _follow_one(http: httpx2.Client, job_id: str, name: str, progress: Progress, bar: TaskID) -> None:
    for event in stream_events(http, job_id):
        data = event.get("data") or {}
        if event["type"] == "phase":
            progress.update(bar, description=f"{name}: {data['phase'].replace('_', ' ')}", completed=0, total=None)
        elif event["type"] == "progress":
            progress.update(bar, completed=data["done"], total=data["total"])
        elif event["type"] == "status":
            progress.update(bar, description=f"{name}: {data['status']}", completed=0, total=None)
    progress.update(bar, completed=1, total=1)
