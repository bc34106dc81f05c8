"""`difftune demo`: start an embedded stack, tune twice, compare, load the result with diffusers."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
from rich.console import Console

from cli.demo import tables
from cli.demo.digits import DigitZips, write_digits
from cli.demo.follow import follow
from cli.demo.pipeline import sample_grid
from cli.demo.stack import DemoStack

MODEL = "tiny-dit"
_PART_BYTES = 64 * 1024  # small, so that the demo's upload really has several parts
_POLL_S = 0.3
_WIDTH = 120  # where no terminal says how wide it is


class DemoError(Exception):
    """A step of the demo failed."""


@dataclass
class Demo:
    """One run of the demo in `folder`."""

    folder: Path
    seed: int
    max_steps: int | None
    console: Console

    def run(self) -> dict[str, Any]:
        """Everything, in order; returns the summary of the last line."""
        begin = time.monotonic()
        shutil.rmtree(self.folder, ignore_errors=True)
        zips = write_digits(self.folder / "input", self.seed)
        with DemoStack(self.folder / "data") as stack:
            self.client = openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.key)
            self.http = httpx2.Client(base_url=stack.url, headers={"Authorization": f"Bearer {stack.key}"})
            jobs = self._submit(*self._upload(zips))
            follow(self.http, jobs, self.console)
            finished = {name: self._finished(name, job_id) for name, job_id in jobs.items()}
            reports = {name: self._report(job) for name, job in finished.items()}
            models = {name: self._download(name, job) for name, job in finished.items()}
        seconds = {name: float(job.finished_at - job.started_at) for name, job in finished.items()}
        tables.show(self.console, reports, seconds)
        grid = sample_grid(models["diff_tuning"]["folder"], self.folder / "grid.png", seed=self.seed)
        return {
            "ok": True,
            "seconds": round(time.monotonic() - begin, 1),
            "dataset": {"items": zips.num_train},
            "jobs": {
                name: {"id": jobs[name], **tables.figures(tables.evaluation_at(report, _last_step(report)))}
                for name, report in reports.items()
            },
            "checkpoint": {k: models["diff_tuning"][k] for k in ("sha256", "bytes")},
            "report": str(self.folder / "diff_tuning-report.html"),
            "grid": str(grid),
        }

    def _upload(self, zips: DigitZips) -> tuple[str, str]:
        """The small file in one request, the other in parts: both become data sets."""
        self.console.print(f"uploading {zips.num_train} digits to train on, {zips.num_validation} to judge by")
        train = self.client.files.create(file=zips.train, purpose="fine-tune").id
        data = zips.validation.read_bytes()
        upload = self.client.uploads.create(
            bytes=len(data), filename=zips.validation.name, mime_type="application/zip", purpose="fine-tune"
        )
        chunks = [data[i : i + _PART_BYTES] for i in range(0, len(data), _PART_BYTES)]
        part_ids = [self.client.uploads.parts.create(upload.id, data=chunk).id for chunk in chunks]
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        completed = self.client.uploads.complete(upload.id, part_ids=part_ids, md5=md5)
        if completed.file is None:
            raise DemoError("the completed upload has no file")
        for file_id in (train, completed.file.id):
            self._processed(file_id)
        return train, completed.file.id

    def _processed(self, file_id: str) -> None:
        while (file := self.client.files.retrieve(file_id)).status != "processed":
            if file.status == "error":
                raise DemoError(f"{file.filename} is invalid: {file.status_details}")
            time.sleep(_POLL_S)

    def _submit(self, train: str, validation: str) -> dict[str, str]:
        """Two jobs that differ in nothing but the method."""
        hyperparameters = {} if self.max_steps is None else {"max_steps": self.max_steps}
        jobs = {}
        for method in ("supervised", "diff_tuning"):
            body: Any = {"type": method, method: {"hyperparameters": hyperparameters}}
            job = self.client.fine_tuning.jobs.create(
                model=MODEL,
                training_file=train,
                validation_file=validation,
                method=body,
                seed=self.seed,
                suffix="digits",
            )
            self.console.print(f"submitted {job.id} ({method})")
            jobs[method] = job.id
        return jobs

    def _finished(self, name: str, job_id: str) -> Any:
        job = self.client.fine_tuning.jobs.retrieve(job_id)
        if job.status != "succeeded":
            raise DemoError(f"{name} ended {job.status}: {job.error}")
        return job

    def _report(self, job: Any) -> dict[str, Any]:
        method = job.method.type
        report: dict[str, Any] = {}
        for file_id in job.result_files:
            name = self.client.files.retrieve(file_id).filename
            if name.endswith((".json", ".html", ".png")):
                content = self.client.files.content(file_id).read()
                (self.folder / f"{method}-{name}").write_bytes(content)
                if name.endswith("report.json"):
                    report = json.loads(content)
        return report

    def _download(self, name: str, job: Any) -> dict[str, Any]:
        """The last checkpoint as a diffusers folder, its sha256 checked against what the service states."""
        checkpoints = self.client.fine_tuning.jobs.checkpoints.list(job.id)
        newest = max(checkpoints, key=lambda checkpoint: checkpoint.step_number)
        url = f"/v1/checkpoints/{newest.id}/download"
        link = self.http.get(url, params={"format": "diffusers", "redirect": "false"}).raise_for_status().json()
        data = self.http.get(link["url"], headers={"Authorization": ""}).raise_for_status().content
        digest = hashlib.sha256(data).hexdigest()
        if digest != link["sha256"]:
            raise DemoError(f"the {name} checkpoint has sha256 {digest}, not {link['sha256']}")
        archive = self.folder / f"{name}.zip"
        archive.write_bytes(data)
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(self.folder / name)  # our own export, its digest was just checked
        return {"sha256": digest, "bytes": len(data), "folder": self.folder / name}


def _last_step(report: dict[str, Any]) -> int:
    return max(int(entry["step"]) for entry in report["evaluations"])


def run_demo(folder: Path, *, seed: int, max_steps: int | None) -> int:
    """Run the demo; the last line printed is its summary as one JSON object. Returns the exit status."""
    console = Console(stderr=True, width=None if sys.stderr.isatty() else _WIDTH)
    try:
        summary = Demo(folder, seed, max_steps, console).run()
    except (DemoError, openai.OpenAIError, httpx2.HTTPError) as error:
        console.print(f"the demo failed: {error}", style="red")
        print(json.dumps({"ok": False, "error": str(error)}))  # noqa: T201  # the command's output
        return 1
    print(json.dumps(summary))  # noqa: T201  # the command's output
    return 0
