"""The joint report of a comparison as a run: the reports of its jobs in, one report of all out."""

from __future__ import annotations

import shutil
from pathlib import Path

from sqlalchemy.orm import Session

from api.comparisons import lifecycle
from api.comparisons.models import Comparison
from api.comparisons.repository import Member, members_of
from api.datasets.models import Dataset
from api.jobs.states import JobStatus
from api.subjects.files import StoredFile
from api.subjects.models import ResultFile
from api.work.models import WorkItem
from difftune_core.config.comparison import ComparisonConfig, MissingRun
from difftune_core.hooks import ArtifactEvent, Event
from worker.child import Child
from worker.failures import Ending
from worker.inputs import about_arguments
from worker.results import store_result
from worker.run import Run
from worker.settle import settle_comparison
from worker.workspace import fetch_checkpoint

_KINDS = {"report_json": "report.json", "samples": "samples.png"}


class Comparing:
    """One attempt at a joint report."""

    command = "compare"

    def __init__(self, run: Run) -> None:
        """Nothing happens yet."""
        self._run = run
        self._files: list[StoredFile] = []
        self.num_threads = 1

    def prepare(self) -> list[str]:
        """Fetch the jobs' reports and sample grids; the child's arguments.

        Raises:
            TaskError: a file is missing from the store or damaged.
        """
        workspace = self._run.workspace
        data = workspace.folder / "inputs"
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(parents=True)
        comparison, members, files, datasets = self._rows()
        missing = lifecycle.missing_runs(members)
        for member in members:
            if member.job.status != JobStatus.SUCCEEDED:
                continue
            stored = {kind: files[kind][member.job.id] for kind in _KINDS if member.job.id in files[kind]}
            if "report_json" in stored:
                self._fetch(stored, data / member.method / str(member.seed))
            else:
                missing.append(MissingRun(method=member.method, seed=member.seed, reason="its report was deleted"))
        config = ComparisonConfig(
            methods=[method["name"] for method in comparison.methods], seeds=comparison.seeds, missing=tuple(missing)
        )
        path = workspace.write_config(config.model_dump(mode="json"))
        about = about_arguments(comparison.id, comparison.suffix, comparison.created_at, datasets)
        return [str(path), *about, "--data", str(data), "--out", str(workspace.out)]

    def begin(self, child: Child) -> None:
        """The child has started."""

    def handle(self, event: Event) -> None:
        """Store the files of the report; their rows are written with the end."""
        if isinstance(event, ArtifactEvent):
            prefix = f"comparisons/{self._run.lease.subject_id}/{self._run.lease.fence}"
            self._files.append(store_result(self._run, event, prefix))

    def idle(self) -> None:
        """Called several times a second."""

    def complete(self, ending: Ending) -> Ending:
        """The child has ended."""
        return ending

    def settle(self, session: Session, item: WorkItem, ending: Ending) -> bool:
        """Move the comparison on; True, its inputs are in the store."""
        settle_comparison(session, item, ending, settings=self._run.tools.settings, files=self._files)
        return True

    def _rows(self) -> tuple[Comparison, list[Member], dict[str, dict[str, ResultFile]], dict[str, Dataset]]:
        comparison_id = self._run.lease.subject_id
        with self._run.tools.database.read() as session:
            comparison = session.get_one(Comparison, comparison_id)
            members = members_of(session, [comparison_id])[comparison_id]
            ids = [member.job.id for member in members]
            named = {"data": comparison.training_file, "validation": comparison.validation_file}
            datasets = {option: session.get_one(Dataset, id_) for option, id_ in named.items() if id_}
            return comparison, members, {kind: lifecycle.job_files(session, ids, kind) for kind in _KINDS}, datasets

    def _fetch(self, stored: dict[str, ResultFile], folder: Path) -> None:
        entries = [
            {"name": _KINDS[kind], "key": file.key, "sha256": file.sha256} for kind, file in sorted(stored.items())
        ]
        fetch_checkpoint(self._run.tools.store, entries, folder, self._run.check)
