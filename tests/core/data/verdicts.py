"""What validation says of a set, in short."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from difftune_core.config.dataset import DatasetOptions
from difftune_core.data.validate import validate


@dataclass
class Verdict:
    """A report and its items; the sum that every report must keep was checked."""

    report: dict[str, Any]
    items: list[dict[str, Any]]

    def codes(self, kind: str = "errors") -> dict[str, str]:
        """Path -> code of the findings of a kind."""
        return {finding["path"]: finding["code"] for finding in self.report[kind]}

    @property
    def warnings(self) -> dict[str, str]:
        """Path -> code, but for the warning that every small set gets."""
        return {path: code for path, code in self.codes("warnings").items() if code != "few_images"}

    @property
    def ignored(self) -> set[str]:
        """Paths of the ignored files."""
        return set(self.codes("ignored_files"))

    @property
    def message(self) -> str:
        """Of the first error."""
        return str(self.report["errors"][0]["message"])


def judge(path: Path, hooks: Any, **options: Any) -> Verdict:
    """The verdict on an archive or folder."""
    out = path.parent / f"out of {path.name}"
    validate(path, out, hooks, options=DatasetOptions(**options))
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    items = [json.loads(line) for line in (out / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    assert report["accepted"] + report["rejected"] + report["ignored"] == report["entries"]
    assert len(report["ignored_files"]) == report["ignored"]
    assert report["ok"] == (not report["errors"])
    return Verdict(report, items)
