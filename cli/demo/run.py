"""`difftune demo`: start an embedded stack, tune twice, compare, load the result with diffusers."""

from __future__ import annotations

import json
import shutil
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
from rich.console import Console

from cli import transfer
from cli.demo import tables
from cli.demo.client import DemoClient
from cli.demo.digits import write_digits
from cli.demo.pipeline import sample_grid
from cli.demo.stack import DemoStack
from cli.follow import follow
from difftune.service import ServiceError

MODEL = "tiny-dit"


@dataclass
class Demo:
    """One run of the demo in `folder`."""

    folder: Path
    seed: int
    max_steps: int | None
    console: Console

    def run(self) -> dict[str, Any]:
        """Run the whole demo and return the summary of the last line."""
        begin = time.monotonic()
        shutil.rmtree(self.folder, ignore_errors=True)
        zips = write_digits(self.folder / "input", self.seed)
        hyperparameters = {} if self.max_steps is None else {"max_steps": self.max_steps}
        self.console.print(f"starting a service over {self.folder / 'data'}", markup=False, highlight=False)
        with DemoStack(self.folder / "data") as stack, stack.connected() as service:
            client = DemoClient(service, self.folder)
            self.console.print(f"uploading {zips.num_train} digits to train on, {zips.num_validation} to judge by")
            files = client.upload(zips.train), client.upload(zips.validation, in_parts=True)
            jobs = client.submit(MODEL, files, hyperparameters, seed=self.seed, suffix="digits")
            follow(service, jobs, self.console)
            finished = {name: client.finished(job_id) for name, job_id in jobs.items()}
            reports = {name: client.report(job) for name, job in finished.items()}
            exports = {
                name: client.download(job, "diffusers", self.folder / f"{name}.zip") for name, job in finished.items()
            }
        seconds = {name: float(job.finished_at - job.started_at) for name, job in finished.items()}
        tables.show(self.console, reports, seconds)
        with zipfile.ZipFile(self.folder / "diff_tuning.zip") as opened:
            opened.extractall(self.folder / "diff_tuning")  # our own export, its digest was just checked
        self.console.print("drawing digits with diffusers' own pipeline")
        grid = sample_grid(self.folder / "diff_tuning", self.folder / "grid.png", seed=self.seed)
        return {
            "ok": True,
            "seconds": round(time.monotonic() - begin, 1),
            "dataset": {"items": zips.num_train},
            "jobs": {
                name: {"id": jobs[name], **tables.figures(tables.evaluation_at(report, _last_step(report)))}
                for name, report in reports.items()
            },
            "checkpoint": exports["diff_tuning"],
            "report": str(self.folder / "diff_tuning-report.html"),
            "grid": str(grid),
        }


def _last_step(report: dict[str, Any]) -> int:
    return max(int(entry["step"]) for entry in report["evaluations"])


def run_demo(folder: Path, *, seed: int, max_steps: int | None) -> int:
    """Run the demo; the last line printed is its summary as one JSON object. Returns the exit status."""
    return told(lambda console: Demo(folder, seed, max_steps, console).run())


def told(run: Callable[[Console], dict[str, Any]]) -> int:
    """Run a demo, print its summary, or why it failed, as one JSON object; the exit status."""
    console = transfer.told()
    try:
        summary = run(console)
    except (ServiceError, openai.OpenAIError, httpx2.HTTPError) as error:
        console.print(f"the demo failed: {error}", style="red")
        print(json.dumps({"ok": False, "error": str(error)}))  # noqa: T201  # the command's output
        return 1
    print(json.dumps(summary))  # noqa: T201  # the command's output
    return 0
