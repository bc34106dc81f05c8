"""The making of a retention set as a run, and its file on this node."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from api.datasets.models import Dataset
from api.retention_sets import lifecycle
from api.retention_sets import repository as sets
from api.retention_sets.models import RetentionArtifact
from api.storage import ObjectStore
from api.storage.cleaning import delete_objects
from api.subjects.files import StoredFile
from api.work.models import WorkItem
from difftune_core.hooks import ArtifactEvent, Event, ProgressEvent
from worker.base_models import model_arguments
from worker.child import Child
from worker.failures import SUCCEEDED, Ending
from worker.inputs import dataset_arguments
from worker.progress import ProgressNotes
from worker.results import store_result
from worker.run import Run
from worker.settle import settle_retention_set
from worker.workspace import Check, ensure_file


class RetentionSetMaking:
    """One attempt. What an earlier one has sampled on this node lies in the cache, where the child finds it."""

    command = "retain"

    def __init__(self, run: Run) -> None:
        """Nothing happens yet."""
        self._run = run
        self._progress = ProgressNotes(run, self._write)
        self._stored: StoredFile | None = None
        self.num_threads = run.tools.settings.num_threads

    def prepare(self) -> list[str]:
        """Fetch the archive of uploaded images; the child's arguments.

        Raises:
            TaskError: the archive is missing or damaged.
        """
        workspace, settings = self._run.workspace, self._run.tools.settings
        artifact, dataset = self._rows()
        request: dict[str, Any] = {"model": artifact.model, "base_digest": artifact.base_digest}
        arguments = []
        if dataset is not None:
            arguments += dataset_arguments(self._run, "data", dataset)
            request["images_sha256"] = dataset.identity
        request |= {**(artifact.settings or {}), "num_threads": self.num_threads}
        arguments += model_arguments(self._run.tools.store, settings, [artifact.model], self._run.check)
        cache = (settings.data_dir / "cache").resolve()
        arguments += ["--resolved", "--cache", str(cache), "--out", str(workspace.out)]
        return [str(workspace.write_config(request)), *arguments]

    def begin(self, child: Child) -> None:
        """The child has started."""

    def handle(self, event: Event) -> None:
        """Remember its progress; store the file."""
        if isinstance(event, ProgressEvent):
            self._progress.heard(event)
        elif isinstance(event, ArtifactEvent):
            self._progress.flush()
            self._store(event)

    def idle(self) -> None:
        """Called several times a second."""
        self._progress.flush_if_due()

    def complete(self, ending: Ending) -> Ending:
        """The child has ended: write what is left."""
        self._progress.flush()
        if ending.code == SUCCEEDED and self._stored is None:
            return Ending("crashed", "The child ended without a retention set.")
        return ending

    def settle(self, session: Session, item: WorkItem, ending: Ending) -> bool:
        """Move the set on; True, for what another attempt needs is in the cache."""
        settings = self._run.tools.settings
        settle_retention_set(session, item, ending, settings=settings, stored=self._stored)
        if self._stored is not None and sets.lock(session, item.subject_id).key != self._stored.key:
            delete_objects(self._run.tools.store, [self._stored.key])  # nobody wants it any more
        return True

    def _rows(self) -> tuple[RetentionArtifact, Dataset | None]:
        with self._run.tools.database.read() as session:
            artifact = session.get_one(RetentionArtifact, self._run.lease.subject_id)
            dataset = session.get_one(Dataset, artifact.dataset_id) if artifact.dataset_id else None
            return artifact, dataset

    def _store(self, event: ArtifactEvent) -> None:
        path = self._run.workspace.out / Path(event.file.path).name
        prefix = f"retention_sets/{self._run.lease.subject_id}/{self._run.lease.fence}"
        self._stored = store_result(self._run, event, prefix)
        cached = cached_retention_set(self._run.tools.settings.data_dir, event.file.sha256)
        cached.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # it is there, or a job here fetches it
            os.link(path, cached)

    def _write(self, session: Session, event: ProgressEvent) -> None:
        lifecycle.progressed(sets.lock(session, self._run.lease.subject_id), done=event.done, total=event.total)


def cached_retention_set(data_dir: Path, sha256: str) -> Path:
    """Where a retention set's file is kept on this node."""
    return data_dir / "cache" / "retention_sets" / f"{sha256}.safetensors"


def ensure_retention_set(store: ObjectStore, artifact: RetentionArtifact, data_dir: Path, check: Check) -> Path:
    """The file of a set that was made, fetched if this node does not have it.

    Raises:
        TaskError: `object_missing` or `damaged_file`.
    """
    assert artifact.key is not None, "jobs wait until their set is made"
    assert artifact.sha256 is not None, "as above"
    return ensure_file(store, artifact.key, artifact.sha256, cached_retention_set(data_dir, artifact.sha256), check)
