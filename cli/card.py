"""A job as a person reads it: how it stands, how long it takes, what came of it, what to do next."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from difftune_core.config.figures import all_figures

Answer = dict[str, Any]
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400
_LOSS = {"train_loss": "training loss"}
_WIDTH = 14


def card(job: Answer, newest: list[Answer], reports: list[Answer]) -> str:
    """Return a few lines on a job; `newest` is its newest checkpoint, if it has one, `reports` its files."""
    lines = {
        "job": job["id"],
        "name": job["suffix"] or "",
        "status": _status(job),
        "progress": _progress(job),
        "time left": left(job),
        "tunes": f"{job['model']} by {job['method']['type']}",
        "data": _data(job),
        "times": _times(job),
        "interrupted": _interrupted(job["recoveries"]),
        "newest": _checkpoint(newest[0]) if newest else "",
        "best": job["best_checkpoint"] or "",
        "result": job["fine_tuned_model"] or "",
        "files": ", ".join(report["filename"] for report in reports),
        "next": _next(job, bool(newest)),
    }
    return "\n".join(f"{name:{_WIDTH}}{text}" for name, text in lines.items() if text)


def name_of(job: Answer) -> str:
    """Return what its owner called the job; empty where he did not."""
    return str(job["suffix"] or "")


def left(job: Answer) -> str:
    """Return how long the training still takes, as far as it is known; evaluations come on top."""
    finish, details = job["estimated_finish"], job["status_details"]
    if not finish or details["step"] >= details["total_steps"]:
        return ""
    more = "" if details["phase"] == "training" else " of training after this"
    return f"about {length(max(1.0, finish - time.time()))}{more}"


def length(seconds: float) -> str:
    """Return a length of time in its two largest units."""
    if seconds < _MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < _HOUR_S:
        return f"{seconds // _MINUTE_S:.0f} min {seconds % _MINUTE_S:.0f} s"
    if seconds < _DAY_S:
        return f"{seconds // _HOUR_S:.0f} h {seconds % _HOUR_S // _MINUTE_S:.0f} min"
    return f"{seconds // _DAY_S:.0f} d {seconds % _DAY_S // _HOUR_S:.0f} h"


def moment(seconds: float) -> str:
    """Return a point in time as it reads in this machine's zone."""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def _status(job: Answer) -> str:
    if error := job["error"]:
        return f"{job['status']}: {error['message']} ({error['code']})"
    phase, place = job["status_details"]["phase"], job["status_details"]["queue_position"]
    more = [phase.replace("_", " ")] if phase else []
    return ", ".join([job["status"], *more, *([f"number {place} in the queue"] if place else [])])


def _progress(job: Answer) -> str:
    details = job["status_details"]
    rate, done = details["steps_per_second"], details["done"]
    parts = [f"step {details['step']} of {details['total_steps']}"]
    if done is not None and details["phase"] != "training":
        parts.append(f"{done} of {details['total']} of this phase")
    return ", ".join([*parts, *([f"{rate:.2f} steps a second"] if rate and job["status"] == "running" else [])])


def _data(job: Answer) -> str:
    return f"{job['training_file']}, judged by {job['validation_file'] or 'images held out of it'}"


def _interrupted(recoveries: int) -> str:
    return f"{recoveries} times, and went on each time" if recoveries > 1 else "once, and went on" if recoveries else ""


def _times(job: Answer) -> str:
    submitted = f"submitted {moment(job['created_at'])}"
    if not job["started_at"]:
        return submitted
    took = (job["finished_at"] or time.time()) - job["started_at"]
    return f"{submitted}, {'took' if job['finished_at'] else 'runs for'} {length(took)}"


def _checkpoint(checkpoint: Answer) -> str:
    shown = {f"eval_{figure.key}": figure.label for figure in all_figures() if "card" in figure.shown} | _LOSS
    found = {label: checkpoint["metrics"].get(name) for name, label in shown.items()}
    figures = ", ".join(f"{label} {value:.4g}" for label, value in found.items() if value is not None)
    return f"{checkpoint['id']} at step {checkpoint['step_number']}{f': {figures}' if figures else ''}"


def _next(job: Answer, has_checkpoint: bool) -> str:
    verbs = {"succeeded": "report", "paused": "resume", "running": "watch", "queued": "watch", "failed": "logs"}
    first = [f"difftune {verbs[job['status']]} {job['id']}"] if job["status"] in verbs else []
    return "; ".join([*first, *([f"difftune download {job['id']}"] if has_checkpoint else [])])
