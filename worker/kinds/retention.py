"""The making of a retention set, and its file on a node."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from api.datasets.models import Dataset
from api.retention_sets.models import RetentionArtifact
from difftune_core.hooks import ArtifactEvent, Event
from worker.inputs import dataset_arguments, model_arguments
from worker.kinds.base import Activity
from worker.results import inside
from worker.run import Run
from worker.workspace import ensure_file


class RetentionSetMaking(Activity):
    """One attempt. What an earlier one has sampled on this node lies in the cache, where the child finds it."""

    command = "retain"

    def prepare(self) -> list[str]:
        """Fetch the archive of uploaded images; the child's arguments.

        Raises:
            TaskError: the archive is missing or damaged.
        """
        workspace, settings = self.run.workspace, self.run.tools.settings
        self.num_threads = settings.num_threads
        artifact, dataset = self._rows()
        request: dict[str, Any] = {"model": artifact.model, "base_digest": artifact.base_digest}
        arguments = []
        if dataset is not None:
            arguments += dataset_arguments(self.run, "data", dataset)
            request["images_sha256"] = dataset.identity
        request |= {**(artifact.settings or {}), "num_threads": self.num_threads}
        arguments += model_arguments(self.run, [artifact.model])
        cache = (settings.data_dir / "cache").resolve()
        arguments += ["--resolved", "--cache", str(cache), "--out", str(workspace.out)]
        return [str(workspace.write_config(request)), *arguments]

    def handle(self, event: Event) -> None:
        """Put the file, which is stored, into this node's cache too, for jobs that wait for it."""
        super().handle(event)
        if isinstance(event, ArtifactEvent):
            cached = cached_retention_set(self.run.tools.settings.data_dir, event.file.sha256)
            cached.parent.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):  # it is there, or a job here fetches it
                os.link(inside(self.run.workspace.out, event.file.path), cached)

    def _rows(self) -> tuple[RetentionArtifact, Dataset | None]:
        with self.run.tools.database.read() as session:
            artifact = session.get_one(RetentionArtifact, self.run.lease.subject_id)
            dataset = session.get_one(Dataset, artifact.dataset_id) if artifact.dataset_id else None
            return artifact, dataset


def cached_retention_set(data_dir: Path, sha256: str) -> Path:
    """Return where a retention set's file is kept on this node."""
    return data_dir / "cache" / "retention_sets" / f"{sha256}.safetensors"


def ensure_retention_set(run: Run, artifact: RetentionArtifact) -> Path:
    """The file of a set that was made, fetched if this node does not have it, and held for the run.

    Raises:
        TaskError: `object_missing` or `damaged_file`.
    """
    assert artifact.key is not None, "jobs wait until their set is made"
    assert artifact.sha256 is not None, "as above"
    path = cached_retention_set(run.tools.settings.data_dir, artifact.sha256)
    return run.using(path, partial(ensure_file, run.tools.store, artifact.key, artifact.sha256, path, run.check))
