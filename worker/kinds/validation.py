"""The validation of a data set."""

from __future__ import annotations

import json
from typing import Any

from api.datasets.lifecycle import Finding
from api.datasets.models import Dataset
from api.work.endings import SUCCEEDED, Ending
from difftune_core.hooks import ArtifactEvent, Event
from worker.importing import bring_in
from worker.kinds.base import Activity
from worker.results import inside
from worker.run import Run
from worker.workspace import Fetched, fetch_dataset

_REPORT = "validation_report"


class Validation(Activity):
    """One attempt at a validation. A bad data set is a result, not a failure."""

    command = "validate"

    def __init__(self, run: Run) -> None:
        """Make the attempt's activity; nothing happens yet."""
        super().__init__(run)
        self._report: dict[str, Any] | None = None
        self._fetched: Fetched | None = None

    def prepare(self) -> list[str] | None:
        """Fetch the file and compare its checksums; the child's arguments, or None if nothing is left to find out.

        Raises:
            TaskError: the file is missing or damaged.
        """
        tools, workspace = self.run.tools, self.run.workspace
        with tools.database.read() as session:
            dataset = session.get_one(Dataset, self.run.lease.subject_id)
        parts = dataset.parts or bring_in(self.run, dataset)
        fetched = fetch_dataset(tools.store, parts, tools.settings.data_dir, self.run.check)
        self._fetched = fetched
        for name, stated, found in (
            ("md5", dataset.expected_md5, fetched.md5),
            ("sha256", dataset.expected_sha256, fetched.sha256),
        ):
            if stated is not None and stated.lower() != found:
                message = f"The file's {name} is {found}, not {stated.lower()} as stated."
                self.found = Finding(fetched.sha256, error_code="checksum_mismatch", error_message=message)
                return None
        link = workspace.input_file("data", dataset.filename, self.run.hold(fetched.path))
        data = ["--data", str(link), "--data-options", dataset.settings.model_dump_json()]
        return [str(workspace.write_config({})), *data, "--out", str(workspace.out)]

    def handle(self, event: Event) -> None:
        """Read the report, which is stored like any file."""
        super().handle(event)
        if isinstance(event, ArtifactEvent) and event.kind == _REPORT:
            self._report = json.loads(inside(self.run.workspace.out, event.file.path).read_bytes())

    def complete(self, ending: Ending) -> Ending:
        """Read what the child found; the file of a data set that cannot be used is not kept on this node."""
        if ending.code == SUCCEEDED and self.found is None:
            ending = self._concluded(ending)
        if self._fetched is not None and (self.found is None or self.found.error_code):
            self._fetched.path.unlink(missing_ok=True)
        return ending

    def _concluded(self, ending: Ending) -> Ending:
        if self._report is None:
            return Ending("crashed", "The validation ended without a report.")
        assert self._fetched is not None
        keys = {file.kind: file.key for file in self.stored}
        self.found = _finding(self._report, self._fetched.sha256, keys)
        return ending


def _finding(report: dict[str, Any], sha256: str, keys: dict[str, str]) -> Finding:
    code = message = None
    if not report["ok"]:
        errors = report.get("errors") or [{"path": "", "code": "invalid", "message": "The data set is invalid."}]
        first, more = errors[0], len(errors) - 1
        code = first["code"]
        message = ": ".join(part for part in (first.get("path"), first["message"]) if part)
        message += f" (and {more} more)" if more else ""
    left = (keys.get(_REPORT), keys.get("items"), keys.get("previews"))
    return Finding(sha256, report, *left, error_code=code, error_message=message)
