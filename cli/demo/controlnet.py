"""`difftune demo-controlnet`: teach a ControlNet edges, plainly and by Diff-Tuning; when does it follow them?"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cli.demo.client import METHODS, DemoClient
from cli.demo.run import told
from cli.demo.scene_zips import NUM_TRAIN, NUM_VALIDATION, write_scenes
from cli.demo.stack import DemoStack
from cli.follow import follow

MODEL = "tiny-sd"
_EVALUATIONS = 16
_STEPS = 800
Report = dict[str, Any]


def run_controlnet_demo(folder: Path, *, seed: int, max_steps: int | None) -> int:
    """Run the demo; the last line printed is its summary as one JSON object. Returns the exit status."""
    return told(lambda console: _run(folder, seed, max_steps or _STEPS, console))


def _run(folder: Path, seed: int, max_steps: int, console: Console) -> dict[str, Any]:
    begin = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    console.print(f"rendering {NUM_TRAIN} scenes to train on, {NUM_VALIDATION} to judge by")
    zips = write_scenes(folder / "input", seed)
    fields = {
        "control": {"condition": "edge"},
        "evaluation": {"every_steps": max(1, max_steps // _EVALUATIONS)},
        "seed": seed,
        "suffix": "edge",
    }
    console.print(f"starting a service over {folder / 'data'}", markup=False, highlight=False)
    with DemoStack(folder / "data") as stack, stack.connected() as service:
        client = DemoClient(service, folder)
        files = client.upload(zips.train, in_parts=True), client.upload(zips.validation)
        jobs = client.submit(MODEL, files, {"max_steps": max_steps}, **fields)
        follow(service, jobs, console)
        finished = {name: client.finished(job_id) for name, job_id in jobs.items()}
        reports = {name: client.report(job) for name, job in finished.items()}
        exports = {name: client.download(job, "diffusers", folder / f"{name}.zip") for name, job in finished.items()}
    seconds = {name: float(job.finished_at - job.started_at) for name, job in finished.items()}
    console.print(_table(reports, seconds))
    return {
        "ok": True,
        "seconds": round(time.monotonic() - begin, 1),
        "jobs": {name: _summary(reports[name], exports[name], seconds[name]) for name in METHODS},
        "report": str(folder / "diff_tuning-report.html"),
    }


def _summary(report: Report, export: dict[str, Any], seconds: float) -> dict[str, Any]:
    last = report["evaluations"][-1]
    return {
        "convergence_step": report["convergence"]["step"],
        "ssim": last["ssim"],
        "fid": last["fid"],
        "forgetting": last["forgetting"]["null_fid"],
        "seconds": seconds,
        "sha256": export["sha256"],
    }


def _table(reports: dict[str, Report], seconds: dict[str, float]) -> Table:
    table = Table(title="Edges of held-out scenes")
    for column in ("", "sudden convergence", "SSIM", "FID", "forgetting", "job seconds"):
        table.add_column(column, justify="left" if not column else "right")
    for name, report in reports.items():
        last, found = report["evaluations"][-1], report["convergence"]
        step = "none" if found["step"] is None else f"step {found['step']}"
        table.add_row(name, step, *_cells(last), f"{last['forgetting']['null_fid']:.2f}", f"{seconds[name]:.0f}")
    references = next(iter(reports.values()))["references"]
    table.add_section()
    table.add_row("base model, no control", "", *_cells(references["base_model"]), "", "")
    table.add_row("autoencoder alone (best possible)", "", *_cells(references["autoencoder_floor"]), "", "")
    return table


def _cells(entry: dict[str, Any]) -> list[str]:
    return [f"{entry['ssim']:.3f} ± {entry['ssim_se']:.3f}", f"{entry['fid']:.2f}"]
