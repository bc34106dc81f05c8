"""A fine-tuning job of a service: watch it, take what it made."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from PIL import Image

from difftune.board import Board, named_figures
from difftune.bodies import continued_config, job_body
from difftune.service import Service, ServiceError

JOBS = "/v1/fine_tuning/jobs"
_FINAL = frozenset({"succeeded", "failed", "cancelled"})
_SAID = frozenset({"checkpoint", "best", "sample"})
PathLike = str | Path


def path_of(job_id: str) -> str:
    """Return the path of a job in the API."""
    return f"{JOBS}/{quote(job_id, safe='')}"


class JobFailedError(Exception):
    """A job that was watched has failed or was cancelled; the message says why, `job` is the job."""

    def __init__(self, job: Job) -> None:
        """Tell of the job."""
        error = job.data["error"] or {}
        super().__init__(f"{job.id} is {job.status}" + (f": {error['message']}" if error else ""))
        self.job = job
        self.code: str | None = error.get("code")


class Job:
    """A fine-tuning job of a service."""

    def __init__(self, service: Service, data: dict[str, Any]) -> None:
        """Know what the service last said of the job."""
        self.service, self.data = service, data

    def __repr__(self) -> str:
        """Tell the job's id and how it stood."""
        return f"Job({self.id!r}, {self.status!r})"

    @property
    def id(self) -> str:
        """Id of the job (`ftjob_...`)."""
        return str(self.data["id"])

    @property
    def status(self) -> str:
        """How the job stood when the service was last asked: `queued`, `running`, `succeeded` and so on."""
        return str(self.data["status"])

    def refresh(self) -> Self:
        """Ask the service how the job stands now."""
        self.data = self.service.ask(path_of(self.id))
        return self

    def watch(self, *, show: bool = True) -> Self:
        """Wait until the job has ended, and show how it goes: in a notebook a cell that changes, else lines on stderr.

        Raises:
            JobFailedError: it has failed or was cancelled.
            ServiceError: the service is gone for long.
        """
        board = Board(self.data["suffix"] or self.id, show=show)
        for event in self.events():
            self._tell(board, event)
        board.end(self.refresh().status)
        if self.status != "succeeded":
            raise JobFailedError(self)
        return self

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the job's events from the first on, until it has ended."""
        return self.service.events(self.id)

    @property
    def figures(self) -> dict[str, float]:
        """The figures of the job's result, or of its newest checkpoint while there is none: `fid`, `train_loss` ..."""
        checkpoint = self._checkpoint()
        metrics = dict(checkpoint["metrics"]) if checkpoint else {}
        metrics.pop("step", None)
        return named_figures(metrics)

    @property
    def curves(self) -> dict[str, list[tuple[int, float]]]:
        """All that was measured, by name: pairs of step and value, in the order of steps."""
        found: dict[str, list[tuple[int, float]]] = {}
        for point in self.service.pages(f"{path_of(self.id)}/metrics", limit=100):
            for name, value in named_figures({point["name"]: point["value"]}).items():
                found.setdefault(name, []).append((point["step"], value))
        return {name: sorted(points) for name, points in sorted(found.items())}

    @property
    def images(self) -> dict[int, Image.Image]:
        """Sample images by step, 0 being the base model: the same noise each time."""
        listed = self.service.pages(f"{path_of(self.id)}/samples", limit=100)
        return {file["step"]: Image.open(io.BytesIO(self.service.read(file["url"]))) for file in listed}

    @property
    def checkpoints(self) -> list[dict[str, Any]]:
        """Checkpoints of the job, the newest first."""
        return list(self.service.pages(f"{path_of(self.id)}/checkpoints", limit=100))

    def download(self, to: PathLike = ".", *, format: str = "diffusers") -> Path:  # noqa: A002  # the API's name
        """Write the job's result, or its newest checkpoint while there is none, to a folder; return the file's path.

        Args:
            to: the folder; made where it is not there.
            format: `diffusers`, `safetensors`, `original` or `single_file`: what the model has.

        Raises:
            ServiceError: there is no checkpoint yet, or not in this format.
        """
        checkpoint = self._result()
        asked = {"format": format, "redirect": "false"}
        link = self.service.ask(f"/v1/checkpoints/{checkpoint['id']}/download", params=asked)
        return self._fetch(link["url"], Path(to) / link["filename"], link["sha256"])

    def report(self, to: PathLike = ".") -> Path:
        """Write the page of the job's report to a folder and return its path.

        Raises:
            ServiceError: there is none yet.
        """
        for file in self.service.pages(f"{path_of(self.id)}/reports"):
            if file["kind"] == "report_html":
                return self._fetch(file["url"], Path(to) / f"{self.id}-{file['filename']}", file["sha256"])
        raise ServiceError(f"{self.id} has no report yet: it is written after the last evaluation")

    def logs(self) -> str:
        """Return what the job's trainers have printed."""
        return "".join(piece["text"] for piece in self.service.pages(f"{path_of(self.id)}/logs"))

    def pause(self) -> Self:
        """Have the job save its state and give its GPU to others."""
        return self._act("pause")

    def resume(self) -> Self:
        """Go on with a paused job where it stopped."""
        return self._act("resume")

    def cancel(self) -> Self:
        """End the job for good; its checkpoints stay."""
        return self._act("cancel")

    def continued(
        self, *, steps: int | None = None, epochs: float | None = None, name: str | None = None, **fields: Any
    ) -> Job:
        """Submit a job that goes on from this one's result with the same images and settings, but for those stated.

        It takes what `Client.submit` takes; the optimizer begins anew.

        Raises:
            ServiceError: there is no checkpoint yet, or the service refuses the job.
            ValueError: there is no such field.
        """
        config = continued_config(self.data, self._result()["id"])
        body = job_body(config, steps=steps, epochs=epochs, suffix=name, **fields)
        return Job(self.service, self.service.ask(JOBS, method="POST", json=body))

    def _act(self, verb: str) -> Self:
        self.data = self.service.ask(f"{path_of(self.id)}/{verb}", method="POST")
        return self

    def _checkpoint(self) -> dict[str, Any] | None:
        if self.status not in _FINAL:
            self.refresh()
        checkpoints, result = self.checkpoints, self.data["fine_tuned_model"]
        return next((one for one in checkpoints if one["id"] == result), checkpoints[0] if checkpoints else None)

    def _result(self) -> dict[str, Any]:
        checkpoint = self._checkpoint()
        if checkpoint is None:
            raise ServiceError(f"{self.id} has no checkpoint{'' if self.status in _FINAL else ' yet'}")
        return checkpoint

    def _fetch(self, url: str, target: Path, sha256: str) -> Path:
        target.parent.mkdir(parents=True, exist_ok=True)
        self.service.download(url, target, sha256)
        return target

    def _tell(self, board: Board, event: Mapping[str, Any]) -> None:
        data = event.get("data") or {}
        match event["type"]:
            case "phase":
                board.phase(data["phase"])
            case "status":
                board.phase(data["status"])
            case "progress":
                board.progress(data["done"], data["total"])
            case "metrics":
                board.figures(data["step"], {name: value for name, value in data.items() if name != "step"})
        if event["type"] == "sample" and board.wants_pictures:
            board.picture(f"step {data['step']}", self.service.read(data["url"]))
        elif event["type"] in _SAID or event["level"] != "info":
            board.say(event["message"])
