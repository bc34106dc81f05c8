"""The joint report of a comparison: the reports of its jobs in, one report of all out."""

from __future__ import annotations

import shutil

from api.comparisons import lifecycle
from api.comparisons.models import Comparison
from api.comparisons.repository import Member, members_of
from api.datasets.models import Dataset
from api.jobs.states import JobStatus
from api.subjects.models import ResultFile
from difftune_core.config.comparison import ComparisonConfig, MissingRun
from worker.inputs import about_arguments
from worker.kinds.base import Activity
from worker.workspace import fetch_files

_KINDS = {"report_json": "report.json", "samples": "samples.png"}


class Comparing(Activity):
    """One attempt at a joint report."""

    command = "compare"

    def prepare(self) -> list[str]:
        """Fetch the jobs' reports and sample grids; the child's arguments.

        Raises:
            TaskError: a file is missing from the store or damaged.
        """
        workspace = self.run.workspace
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
                inputs = [file.stored.called(_KINDS[kind]) for kind, file in sorted(stored.items())]
                fetch_files(self.run.tools.store, inputs, data / member.method / str(member.seed), self.run.check)
            else:
                missing.append(MissingRun(method=member.method, seed=member.seed, reason="its report was deleted"))
        config = ComparisonConfig(
            methods=[method["name"] for method in comparison.methods], seeds=comparison.seeds, missing=tuple(missing)
        )
        path = workspace.write_config(config.model_dump(mode="json"))
        about = about_arguments(comparison.id, comparison.suffix, comparison.created_at, datasets)
        return [str(path), *about, "--data", str(data), "--out", str(workspace.out)]

    def _rows(self) -> tuple[Comparison, list[Member], dict[str, dict[str, ResultFile]], dict[str, Dataset]]:
        comparison_id = self.run.lease.subject_id
        with self.run.tools.database.read() as session:
            comparison = session.get_one(Comparison, comparison_id)
            members = members_of(session, [comparison_id])[comparison_id]
            ids = [member.job.id for member in members]
            named = {"data": comparison.training_file, "validation": comparison.validation_file}
            datasets = {option: session.get_one(Dataset, id_) for option, id_ in named.items() if id_}
            return comparison, members, {kind: lifecycle.job_files(session, ids, kind) for kind in _KINDS}, datasets
