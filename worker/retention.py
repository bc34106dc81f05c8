"""The making of a retention set as a run, and its file on this node."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from api.datasets.models import Dataset
from api.retention_sets import lifecycle
from api.retention_sets import repository as sets
from api.retention_sets.lifecycle import StoredSet
from api.retention_sets.models import RetentionArtifact
from api.storage import ObjectStore
from api.storage.cleaning import delete_objects
from api.work import repository
from api.work.models import WorkItem
from difftune_core.hooks import ArtifactEvent, Event, ProgressEvent
from worker.child import Child
from worker.failures import SUCCEEDED, Ending
from worker.models import model_arguments
from worker.run import Run
from worker.settle import settle_retention_set
from worker.workspace import Check, ensure_dataset, ensure_file

_FLUSH_S = 0.5


class RetentionSetMaking:
    """One attempt. What an earlier one has sampled on this node lies in the cache, where the child finds it."""

    command = "retain"

    def __init__(self, run: Run) -> None:
        """Nothing happens yet."""
        self._run = run
        self._progress: ProgressEvent | None = None
        self._flushed_at = 0.0
        self._stored: StoredSet | None = None
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
            assert dataset.sha256 is not None, "only sets of ready data sets are made"
            check, store = self._run.check, self._run.tools.store
            cached = ensure_dataset(store, dataset.parts, dataset.sha256, settings.data_dir, check)
            arguments += ["--data", str(workspace.input_file("data", dataset.filename, cached))]
            request["images_sha256"] = dataset.sha256
        request |= {**(artifact.settings or {}), "num_threads": self.num_threads}
        arguments += model_arguments(self._run.tools.store, settings, [artifact.model], self._run.check)
        cache = (settings.data_dir / "cache").resolve()
        return [str(workspace.write_config(request)), *arguments, "--cache", str(cache), "--out", str(workspace.out)]

    def begin(self, child: Child) -> None:
        """The child has started."""

    def handle(self, event: Event) -> None:
        """Remember its progress; store the file."""
        if isinstance(event, ProgressEvent):
            self._progress = event
        elif isinstance(event, ArtifactEvent):
            self._flush()
            self._store(event)

    def idle(self) -> None:
        """Called several times a second."""
        if time.monotonic() - self._flushed_at >= _FLUSH_S:
            self._flush()

    def complete(self, ending: Ending) -> Ending:
        """The child has ended: write what is left."""
        self._flush()
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
        key = f"retention_sets/{self._run.lease.subject_id}/{self._run.lease.fence}/{path.name}"
        self._run.upload(key, path, event.file, content_type="application/octet-stream")
        self._stored = StoredSet(key, event.file.bytes, event.file.sha256)
        cached = cached_retention_set(self._run.tools.settings.data_dir, event.file.sha256)
        cached.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # it is there, or a job here fetches it
            os.link(path, cached)

    def _flush(self) -> None:
        event, self._progress = self._progress, None
        if event is not None:
            self._flushed_at = time.monotonic()
            self._run.insist(lambda: self._write(event))

    def _write(self, event: ProgressEvent) -> None:
        with self._run.unit() as (session, _):
            lifecycle.progressed(sets.lock(session, self._run.lease.subject_id), done=event.done, total=event.total)
            repository.note_progress(session, self._run.lease)


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
