"""What both demos ask of the service: upload, submit, fetch results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from difftune.service import Service, ServiceError

_PART_BYTES = 64 * 1024  # small, so that a demo's upload really has several parts
METHODS = ("supervised", "diff_tuning")


class DemoClient:
    """A running stack's client; results go into `folder`."""

    def __init__(self, service: Service, folder: Path) -> None:
        """Ask nothing yet."""
        self.service = service
        self._folder = folder

    def upload(self, path: Path, *, in_parts: bool = False) -> str:
        """Upload an archive and return its id once it was found valid.

        Raises:
            ServiceError: it is invalid.
        """
        sent = self.service.upload(path, part_bytes=_PART_BYTES) if in_parts else self.service.upload(path)
        return str(self.service.validated(sent)["id"])

    def submit(
        self, model: str, files: tuple[str, str], hyperparameters: dict[str, Any], **fields: Any
    ) -> dict[str, str]:
        """Submit two jobs that differ in nothing but the method: method -> id. `fields` are ours beside OpenAI's."""
        jobs = {}
        for method in METHODS:
            body: Any = {"type": method, method: {"hyperparameters": hyperparameters}}
            job = self.service.openai.fine_tuning.jobs.create(
                model=model, training_file=files[0], validation_file=files[1], method=body, extra_body=fields
            )
            jobs[method] = job.id
        return jobs

    def finished(self, job_id: str) -> Any:
        """Return a job that has succeeded.

        Raises:
            ServiceError: it ended otherwise.
        """
        job = self.service.openai.fine_tuning.jobs.retrieve(job_id)
        if job.status != "succeeded":
            raise ServiceError(f"{job_id} ended {job.status}: {job.error}")
        return job

    def report(self, job: Any) -> dict[str, Any]:
        """Return the report; it and its pages and pictures are kept as `<method>-<name>`."""
        report: dict[str, Any] = {}
        for file in self.service.pages(f"/v1/fine_tuning/jobs/{job.id}/reports"):
            target = self._folder / f"{job.method.type}-{file['filename']}"
            self.service.download(file["url"], target, file["sha256"])
            if file["kind"] == "report_json":
                report = json.loads(target.read_bytes())
        return report

    def download(self, job: Any, form: str, target: Path) -> dict[str, Any]:
        """Write the newest checkpoint in a form; its sha256 is checked against what the service states."""
        checkpoints = self.service.openai.fine_tuning.jobs.checkpoints.list(job.id)
        newest = max(checkpoints, key=lambda checkpoint: checkpoint.step_number)
        link = self.service.ask(f"/v1/checkpoints/{newest.id}/download", params={"format": form, "redirect": "false"})
        digest = self.service.download(link["url"], target, link["sha256"])
        return {"sha256": digest, "bytes": target.stat().st_size}
