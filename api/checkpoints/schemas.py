from __future__ import annotations

from typing import Literal

from api.jobs.models import Checkpoint
from api.schemas import Listed, Out


class CheckpointFile(Out):
    """One file of a checkpoint."""

    name: str
    bytes: int
    sha256: str


class CheckpointOut(Listed):
    """A checkpoint, in OpenAI's shape, with its files."""

    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: dict[str, float | None]
    """Values at this step, and `step`; of series that were not logged at it, none."""
    tags: list[str]
    """`latest`, `best`."""
    best: bool
    """Whether the checkpoint is the best so far, by the job's `evaluation.best_metric`; the best is never collected."""
    files: list[CheckpointFile]
    """`model.safetensors` is the weight average, the one to use."""
    resume_available: bool
    download_url: str


def checkpoint_out(
    checkpoint: Checkpoint, *, metrics: dict[str, float | None], is_latest: bool, is_best: bool
) -> CheckpointOut:
    tags = {"latest": is_latest, "best": is_best}
    return CheckpointOut(
        id=checkpoint.id,
        created_at=int(checkpoint.created_at),
        fine_tuned_model_checkpoint=checkpoint.id,
        fine_tuning_job_id=checkpoint.job_id,
        step_number=checkpoint.step,
        metrics={**metrics, "step": checkpoint.step},
        tags=[tag for tag, has in tags.items() if has],
        best=is_best,
        files=[CheckpointFile(name=f.filename, bytes=f.bytes, sha256=f.sha256) for f in checkpoint.stored],
        resume_available=checkpoint.resume_available,
        download_url=f"/v1/checkpoints/{checkpoint.id}/download",
    )
