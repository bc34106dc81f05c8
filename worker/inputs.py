"""Inputs of a run, brought into its workspace."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import partial

from api.datasets.models import Dataset
from difftune_core.config.about import About
from difftune_core.hooks import TaskError
from worker.base_models import model_roots
from worker.run import Run
from worker.workspace import LostObjectError, cached_dataset, chunks_of, ensure_dataset


def dataset_arguments(run: Run, role: str, dataset: Dataset) -> list[str]:
    """The child's arguments for a data set: its file under its own name, fetched if this node lacks it, and settings.

    Raises:
        TaskError: `dataset_not_ready`, `object_missing` or `damaged_file`.
    """
    if dataset.sha256 is None:
        raise TaskError("dataset_not_ready", f"Data set {dataset.id} has not been validated.", f"{role}_file")
    tools = run.tools
    sha256, data_dir = dataset.sha256, tools.settings.data_dir
    ensure = partial(ensure_dataset, tools.store, dataset.parts, sha256, data_dir, run.check)
    path = run.workspace.input_file(role, dataset.filename, run.using(cached_dataset(data_dir, sha256), ensure))
    return [f"--{role}", str(path), f"--{role}-options", dataset.settings.model_dump_json()]


def validated_arguments(run: Run, role: str, dataset: Dataset) -> list[str]:
    """Return what the validation has left, which saves the child a look at every file. Nothing where it is lost."""
    digest = (dataset.report or {}).get("digest")
    if dataset.items_key is None or digest is None:
        return []
    path = run.workspace.folder / "inputs" / f"{role}-items.jsonl"
    try:
        with path.open("wb") as file:
            for chunk in chunks_of(run.tools.store, dataset.items_key):
                run.check()
                file.write(chunk)
    except LostObjectError:
        path.unlink(missing_ok=True)
        return []
    return [f"--{role}-validated", json.dumps({"items": str(path), "digest": digest})]


def model_arguments(run: Run, ids: Iterable[str]) -> list[str]:
    """The child's `--models`, as `worker.base_models` has them; none of these folders is evicted while it works."""
    tools = run.tools
    roots = model_roots(tools.store, tools.settings, ids, run.check)
    return [argument for root in roots for argument in ("--models", str(run.hold(root).resolve()))]


def about_arguments(subject_id: str, name: str | None, created_at: float, datasets: Mapping[str, Dataset]) -> list[str]:
    """Return how the child is told whose report it makes; `datasets` by the option that they are given with."""
    data, validation = (datasets[role].filename if role in datasets else "" for role in ("data", "validation"))
    about = About(id=subject_id, name=name or "", created_at=int(created_at), data=data, validation=validation)
    return ["--about", about.model_dump_json(exclude_defaults=True)]
