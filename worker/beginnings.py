"""The checkpoint of another job that a job begins with, for a trainer: its weights from this node's cache."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from api.datasets.models import Dataset
from api.jobs.models import Checkpoint, Job
from difftune_core.checkpoint.manifest import MANIFEST, MODEL
from difftune_core.config.origin import ORIGIN_FILE, Ancestor, Origin
from difftune_core.hooks import TaskError
from worker.run import Run
from worker.workspace import ensure_file

_NEEDED = (MODEL, "config.json", MANIFEST)
"""What a run that begins with a checkpoint reads of it; the rest is for a resume."""


def beginning_arguments(run: Run, job: Job) -> list[str]:
    """A trainer's arguments for the checkpoint that the job begins with; none for a job that begins with a base model.

    Raises:
        TaskError: `model_not_found`, there is no such checkpoint any more; `object_missing` or `damaged_file`.
    """
    if job.start_checkpoint is None:
        return []
    with run.tools.database.read() as session:
        checkpoint = session.get(Checkpoint, job.start_checkpoint)
        if checkpoint is None:
            message = f"The checkpoint {job.start_checkpoint}, which the job begins with, was deleted."
            raise TaskError("model_not_found", message, "model")
        data = session.get_one(Dataset, session.get_one(Job, checkpoint.job_id).training_file)
    folder = run.workspace.folder / "beginning"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    cache = run.tools.settings.data_dir / "cache" / "checkpoints"
    files = {file["name"]: file for file in checkpoint.files}
    for name in _NEEDED:
        if name not in files:
            raise TaskError("object_missing", f"{name} of {checkpoint.id} is not in the store.", "model")
        key, sha256 = files[name]["key"], files[name]["sha256"]
        path = cache / f"{sha256}{Path(name).suffix}"
        cached = run.using(path, partial(ensure_file, run.tools.store, key, sha256, path, run.check))
        (folder / name).symlink_to(cached.resolve())
    names = data.class_names
    lineage = tuple(Ancestor(**entry) for entry in job.lineage or ())
    origin = Origin(lineage=lineage, class_names=None if names is None else tuple(names))
    (folder / ORIGIN_FILE).write_text(origin.model_dump_json(), encoding="utf-8")
    return ["--start", str(folder)]
