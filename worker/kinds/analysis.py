"""An analysis of checkpoints."""

from __future__ import annotations

from pathlib import Path

from api.analyses.models import Analysis
from api.datasets.models import Dataset
from api.jobs.models import Checkpoint
from difftune_core.checkpoint.manifest import MANIFEST, MODEL
from worker.inputs import about_arguments, dataset_arguments, model_arguments, validated_arguments
from worker.kinds.base import Activity
from worker.workspace import CHECKPOINTS, fetch_files

_NEEDED = frozenset({MODEL, MANIFEST, "config.json"})
"""What an analysis reads of a checkpoint; the rest is for a resume."""


class AnalysisRun(Activity):
    """One attempt. Chains that an earlier one has drawn on this node lie in the cache, where the child finds them."""

    command = "analyse"
    least_files = 3
    goes_on = True

    def prepare(self) -> list[str]:
        """Fetch data sets and weights; the child's arguments.

        Raises:
            TaskError: an input is missing or damaged.
        """
        workspace, settings = self.run.workspace, self.run.tools.settings
        analysis, datasets, checkpoints = self._rows()
        config = analysis.chain
        self.num_threads = config.num_threads or settings.num_threads
        complete = config.model_copy(update={"num_threads": self.num_threads})
        arguments = [str(workspace.write_config(complete.model_dump(mode="json"))), "--resolved"]
        for name, checkpoint in checkpoints.items():
            arguments += ["--checkpoint", f"{name}={self._weights(checkpoint)}"]
        arguments += about_arguments(analysis.id, None, analysis.created_at, datasets)
        for option, dataset in datasets.items():
            arguments += dataset_arguments(self.run, option, dataset)
            arguments += validated_arguments(self.run, option, dataset)
        named = [model.id for model in config.models()]
        arguments += model_arguments(self.run, named)
        return [*arguments, "--cache", str((settings.data_dir / "cache").resolve()), "--out", str(workspace.out)]

    def _rows(self) -> tuple[Analysis, dict[str, Dataset], dict[str, Checkpoint]]:
        with self.run.tools.database.read() as session:
            analysis = session.get_one(Analysis, self.run.lease.subject_id)
            named = {"data": analysis.training_file, "validation": analysis.validation_file}
            datasets = {option: session.get_one(Dataset, id_) for option, id_ in named.items() if id_}
            rows = {entry["name"]: session.get_one(Checkpoint, entry["id"]) for entry in analysis.checkpoints}
            return analysis, datasets, rows

    def _weights(self, checkpoint: Checkpoint) -> Path:
        """The checkpoint's folder in the workspace, which appears whole or not at all."""
        folder = self.run.workspace.folder / CHECKPOINTS / checkpoint.id
        if not folder.is_dir():
            files = [file for file in checkpoint.stored if file.filename in _NEEDED]
            fetch_files(self.run.tools.store, files, folder, self.run.check)
        return folder
