"""Inputs of a run, brought into its workspace."""

from __future__ import annotations

from pathlib import Path

from api.datasets.models import Dataset
from difftune_core.hooks import TaskError
from worker.run import Run
from worker.workspace import ensure_dataset


def dataset_input(run: Run, role: str, dataset: Dataset) -> Path:
    """The data set's file under its own name, fetched if this node does not have it.

    Raises:
        TaskError: `dataset_not_ready`, `object_missing` or `damaged_file`.
    """
    if dataset.sha256 is None:
        raise TaskError("dataset_not_ready", f"Data set {dataset.id} has not been validated.", f"{role}_file")
    tools = run.tools
    cached = ensure_dataset(tools.store, dataset.parts, dataset.sha256, tools.settings.data_dir, run.check)
    return run.workspace.input_file(role, dataset.filename, cached)
