"""An analysis of checkpoints as a run."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.orm import Session

from api.analyses import lifecycle
from api.analyses.models import Analysis
from api.analyses.states import FINAL, AnalysisStatus
from api.checkpoints.models import Checkpoint
from api.datasets.models import Dataset
from api.storage.cleaning import delete_objects
from api.subjects.files import StoredFile
from api.work.models import WorkItem
from difftune_core.checkpoint.manifest import MANIFEST, MODEL
from difftune_core.hooks import ArtifactEvent, Event, ProgressEvent
from worker.base_models import model_arguments
from worker.child import Child
from worker.failures import SUCCEEDED, Ending
from worker.inputs import about_arguments, dataset_arguments
from worker.progress import ProgressNotes
from worker.results import store_result
from worker.run import Run
from worker.settle import settle_analysis
from worker.workspace import CHECKPOINTS, fetch_checkpoint

_NEEDED = frozenset({MODEL, MANIFEST, "config.json"})
"""What an analysis reads of a checkpoint; the rest is for a resume."""
_RESULTS = 3


class AnalysisRun:
    """One attempt. Chains that an earlier one has drawn on this node lie in the cache, where the child finds them."""

    command = "analyse"

    def __init__(self, run: Run) -> None:
        """Nothing happens yet."""
        self._run = run
        self._progress = ProgressNotes(run, self._write)
        self._stored: list[StoredFile] = []
        self.num_threads = 1

    def prepare(self) -> list[str]:
        """Fetch data sets and weights; the child's arguments.

        Raises:
            TaskError: an input is missing or damaged.
        """
        workspace, settings = self._run.workspace, self._run.tools.settings
        analysis, datasets, checkpoints = self._rows()
        config = analysis.chain
        self.num_threads = config.num_threads or settings.num_threads
        complete = config.model_copy(update={"num_threads": self.num_threads})
        arguments = [str(workspace.write_config(complete.model_dump(mode="json"))), "--resolved"]
        for name, checkpoint in checkpoints.items():
            arguments += ["--checkpoint", f"{name}={self._weights(checkpoint)}"]
        arguments += about_arguments(analysis.id, None, analysis.created_at, datasets)
        for option, dataset in datasets.items():
            arguments += dataset_arguments(self._run, option, dataset)
        named = [model.id for model in config.models()]
        arguments += model_arguments(self._run.tools.store, settings, named, self._run.check)
        return [*arguments, "--cache", str((settings.data_dir / "cache").resolve()), "--out", str(workspace.out)]

    def begin(self, child: Child) -> None:
        """The child has started."""

    def handle(self, event: Event) -> None:
        """Remember its progress; store its files."""
        if isinstance(event, ProgressEvent):
            self._progress.heard(event)
        elif isinstance(event, ArtifactEvent):
            self._progress.flush()
            prefix = f"analyses/{self._run.lease.subject_id}/{self._run.lease.fence}"
            self._stored.append(store_result(self._run, event, prefix))

    def idle(self) -> None:
        """Called several times a second."""
        self._progress.flush_if_due()

    def complete(self, ending: Ending) -> Ending:
        """The child has ended: write what is left."""
        self._progress.flush()
        if ending.code == SUCCEEDED and len(self._stored) != _RESULTS:
            return Ending("crashed", "The child ended without all of its files.")
        return ending

    def settle(self, session: Session, item: WorkItem, ending: Ending) -> bool:
        """Move the analysis on; True if its workspace is not needed any more."""
        settings = self._run.tools.settings
        settle_analysis(session, item, ending, settings=settings, files=self._stored)
        status = lifecycle.lock(session, item.subject_id).status
        if status != AnalysisStatus.SUCCEEDED:
            delete_objects(self._run.tools.store, [file.key for file in self._stored])
        return status in FINAL

    def _rows(self) -> tuple[Analysis, dict[str, Dataset], dict[str, Checkpoint]]:
        with self._run.tools.database.read() as session:
            analysis = session.get_one(Analysis, self._run.lease.subject_id)
            named = {"data": analysis.training_file, "validation": analysis.validation_file}
            datasets = {option: session.get_one(Dataset, id_) for option, id_ in named.items() if id_}
            rows = {entry["name"]: session.get_one(Checkpoint, entry["id"]) for entry in analysis.checkpoints}
            return analysis, datasets, rows

    def _weights(self, checkpoint: Checkpoint) -> Path:
        """The checkpoint's folder in the workspace, which appears whole or not at all."""
        folder = self._run.workspace.folder / CHECKPOINTS / checkpoint.id
        if not folder.is_dir():
            files = [file for file in checkpoint.files if file["name"] in _NEEDED]
            fetch_checkpoint(self._run.tools.store, files, folder, self._run.check)
        return folder

    def _write(self, session: Session, event: ProgressEvent) -> None:
        analysis = lifecycle.lock(session, self._run.lease.subject_id)
        lifecycle.progressed(analysis, done=event.done, total=event.total)
