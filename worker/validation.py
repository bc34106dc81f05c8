"""The validation of a data set as a run."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy.orm import Session

from api.datasets.lifecycle import Finding
from api.datasets.models import Dataset
from api.work.models import WorkItem
from difftune_core.hooks import ArtifactEvent, Event
from worker.child import Child
from worker.failures import SUCCEEDED, Ending
from worker.importing import bring_in
from worker.results import inside
from worker.run import Run
from worker.settle import settle_dataset
from worker.workspace import Fetched, fetch_dataset

_REPORT = "validation_report"


class Validation:
    """One attempt at a validation. A bad data set is a result, not a failure."""

    command = "validate"

    def __init__(self, run: Run) -> None:
        """Nothing happens yet."""
        self._run = run
        self._keys: dict[str, str] = {}
        self._report: dict[str, Any] | None = None
        self._fetched: Fetched | None = None
        self._finding: Finding | None = None
        self.num_threads = 1

    def prepare(self) -> list[str] | None:
        """Fetch the file and compare its checksums; the child's arguments, or None if nothing is left to find out.

        Raises:
            TaskError: the file is missing or damaged.
        """
        tools, workspace = self._run.tools, self._run.workspace
        with tools.database.read() as session:
            dataset = session.get_one(Dataset, self._run.lease.subject_id)
        parts = dataset.parts or bring_in(self._run, dataset)
        fetched = fetch_dataset(tools.store, parts, tools.settings.data_dir, self._run.check)
        self._fetched = fetched
        for name, stated, found in (
            ("md5", dataset.expected_md5, fetched.md5),
            ("sha256", dataset.expected_sha256, fetched.sha256),
        ):
            if stated is not None and stated.lower() != found:
                message = f"The file's {name} is {found}, not {stated.lower()} as stated."
                self._finding = Finding(fetched.sha256, error_code="checksum_mismatch", error_message=message)
                return None
        link = workspace.input_file("data", dataset.filename, fetched.path)
        data = ["--data", str(link), "--data-options", dataset.settings.model_dump_json()]
        return [str(workspace.write_config({})), *data, "--out", str(workspace.out)]

    def begin(self, child: Child) -> None:
        """The child has started."""

    def handle(self, event: Event) -> None:
        """Store the report and the list of images."""
        if isinstance(event, ArtifactEvent):
            path = inside(self._run.workspace.out, event.file.path)
            key = f"datasets/{self._run.lease.subject_id}/{self._run.lease.fence}/{path.name}"
            self._run.upload(key, path, event.file, content_type="application/json")
            self._keys[event.kind] = key
            if event.kind == _REPORT:
                self._report = json.loads(path.read_bytes())

    def idle(self) -> None:
        """Called several times a second."""

    def complete(self, ending: Ending) -> Ending:
        """The child has ended: read what it found."""
        if ending.code != SUCCEEDED or self._finding is not None:
            return ending
        if self._report is None:
            return Ending("crashed", "The validation ended without a report.")
        assert self._fetched is not None
        self._finding = _finding(self._report, self._fetched.sha256, self._keys)
        return ending

    def settle(self, session: Session, item: WorkItem, ending: Ending) -> bool:
        """Move the data set on; True, its workspace is never needed again."""
        settings = self._run.tools.settings
        settle_dataset(session, item, ending, settings=settings, finding=self._finding)
        if self._fetched is not None and (self._finding is None or self._finding.error_code):
            self._fetched.path.unlink(missing_ok=True)
        return True


def _finding(report: dict[str, Any], sha256: str, keys: dict[str, str]) -> Finding:
    code = message = None
    if not report["ok"]:
        errors = report.get("errors") or [{"path": "", "code": "invalid", "message": "The data set is invalid."}]
        first, more = errors[0], len(errors) - 1
        code = first["code"]
        message = ": ".join(part for part in (first.get("path"), first["message"]) if part)
        message += f" (and {more} more)" if more else ""
    return Finding(sha256, report, keys.get(_REPORT), keys.get("items"), error_code=code, error_message=message)
