"""What a demo asks of the service, by the stock `openai` package and plain HTTP, as a user would."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import httpx2
import openai

from cli.demo.stack import DemoStack

_PART_BYTES = 64 * 1024  # small, so that a demo's upload really has several parts
_POLL_S = 0.3
METHODS = ("supervised", "diff_tuning")


class DemoError(Exception):
    """A step of the demo failed."""


class DemoClient:
    """A running stack's client; results go into `folder`."""

    def __init__(self, stack: DemoStack, folder: Path) -> None:
        """Nothing is asked yet."""
        self.openai = openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.key)
        self.http = httpx2.Client(base_url=stack.url, headers={"Authorization": f"Bearer {stack.key}"})
        self._folder = folder

    def upload(self, path: Path) -> str:
        """A small archive in one request; its id once it was found valid.

        Raises:
            DemoError: it is invalid.
        """
        return self._processed(self.openai.files.create(file=path, purpose="fine-tune").id)

    def upload_in_parts(self, path: Path) -> str:
        """The same in several parts, with the md5 of the whole.

        Raises:
            DemoError: it is invalid.
        """
        data = path.read_bytes()
        upload = self.openai.uploads.create(
            bytes=len(data), filename=path.name, mime_type="application/zip", purpose="fine-tune"
        )
        chunks = [data[i : i + _PART_BYTES] for i in range(0, len(data), _PART_BYTES)]
        part_ids = [self.openai.uploads.parts.create(upload.id, data=chunk).id for chunk in chunks]
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        completed = self.openai.uploads.complete(upload.id, part_ids=part_ids, md5=md5)
        if completed.file is None:
            raise DemoError("the completed upload has no file")
        return self._processed(completed.file.id)

    def _processed(self, file_id: str) -> str:
        while (file := self.openai.files.retrieve(file_id)).status != "processed":
            if file.status == "error":
                raise DemoError(f"{file.filename} is invalid: {file.status_details}")
            time.sleep(_POLL_S)
        return file_id

    def submit(
        self, model: str, files: tuple[str, str], hyperparameters: dict[str, Any], **fields: Any
    ) -> dict[str, str]:
        """Two jobs that differ in nothing but the method: method -> id. `fields` are ours beside OpenAI's."""
        jobs = {}
        for method in METHODS:
            body: Any = {"type": method, method: {"hyperparameters": hyperparameters}}
            job = self.openai.fine_tuning.jobs.create(
                model=model, training_file=files[0], validation_file=files[1], method=body, extra_body=fields
            )
            jobs[method] = job.id
        return jobs

    def finished(self, job_id: str) -> Any:
        """A job that has succeeded.

        Raises:
            DemoError: it ended otherwise.
        """
        job = self.openai.fine_tuning.jobs.retrieve(job_id)
        if job.status != "succeeded":
            raise DemoError(f"{job_id} ended {job.status}: {job.error}")
        return job

    def report(self, job: Any) -> dict[str, Any]:
        """The report; it and its pages and pictures are kept as `<method>-<name>`."""
        report: dict[str, Any] = {}
        for file_id in job.result_files:
            name = self.openai.files.retrieve(file_id).filename
            if name.endswith((".json", ".html", ".png")):
                content = self.openai.files.content(file_id).read()
                (self._folder / f"{job.method.type}-{name}").write_bytes(content)
                if name.endswith("report.json"):
                    report = json.loads(content)
        return report

    def download(self, job: Any, form: str, target: Path) -> dict[str, Any]:
        """The newest checkpoint in a form, its sha256 checked against what the service states.

        Raises:
            DemoError: it has another one.
        """
        checkpoints = self.openai.fine_tuning.jobs.checkpoints.list(job.id)
        newest = max(checkpoints, key=lambda checkpoint: checkpoint.step_number)
        url = f"/v1/checkpoints/{newest.id}/download"
        link = self.http.get(url, params={"format": form, "redirect": "false"}).raise_for_status().json()
        data = self.http.get(link["url"], headers={"Authorization": ""}).raise_for_status().content
        digest = hashlib.sha256(data).hexdigest()
        if digest != link["sha256"]:
            raise DemoError(f"the checkpoint {newest.id} has sha256 {digest}, not {link['sha256']}")
        target.write_bytes(data)
        return {"sha256": digest, "bytes": len(data)}
