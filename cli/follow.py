"""Progress bars of jobs, fed by their event streams."""

from __future__ import annotations

import threading
from typing import Any

from rich.console import Console
from rich.progress import Progress, TaskID

from cli.transfer import bars
from difftune.service import Service

_SAID = {"checkpoint", "best", "sample"}  # types of events that are printed above the bars


def follow(service: Service, jobs: dict[str, str], console: Console, *, tell: bool = False) -> None:
    """Show a bar for each job (name -> id) until all streams end; `tell` prints checkpoints and warnings too.

    Raises:
        ServiceError: a stream cannot be had.
    """
    faults: list[Exception] = []
    with bars(console) as progress:
        tasks = {
            name: progress.add_task(f"{name}: {_standing(service, id_)}", total=None) for name, id_ in jobs.items()
        }

        def follow_one(name: str) -> None:
            try:
                for event in service.events(jobs[name]):
                    _show(event, name, progress, tasks[name])
                    if tell and (event["type"] in _SAID or event["level"] != "info"):
                        progress.console.print(event["message"], markup=False, highlight=False)
            except Exception as error:  # noqa: BLE001  # raised again below, in the thread that asked
                faults.append(error)

        threads = [threading.Thread(target=follow_one, args=(name,), daemon=True) for name in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if faults:
        raise faults[0]


def _standing(service: Service, job_id: str) -> str:
    job = service.ask(f"/v1/fine_tuning/jobs/{job_id}")
    return str(job["status_details"]["phase"] or job["status"]).replace("_", " ")


def _show(event: dict[str, Any], name: str, progress: Progress, bar: TaskID) -> None:
    data = event.get("data") or {}
    if event["type"] == "phase":
        _begin(progress, bar, f"{name}: {data['phase'].replace('_', ' ')}")
    elif event["type"] == "progress":
        progress.update(bar, completed=data["done"], total=data["total"])
    elif event["type"] == "status":
        _begin(progress, bar, f"{name}: {data['status']}")


def _begin(progress: Progress, bar: TaskID, description: str) -> None:
    """Show what begins, of which nothing is counted yet; `Progress.update` takes None for a total that stays."""
    next(task for task in progress.tasks if task.id == bar).total = None
    progress.update(bar, description=description, completed=0)
