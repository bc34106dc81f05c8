"""What a validation says of files and of data sets as a whole."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from difftune_core.data.members import Refusal
from difftune_core.files import file_info, write_durably
from difftune_core.hooks import ArtifactEvent, Hooks, ProgressEvent, TaskError

REPORT_FILE = "report.json"
ITEMS_FILE = "items.jsonl"
FEW_IMAGES = 100
"""Images below which the figures that compare neighbourhoods have no value, and those of distributions say little."""
_PROGRESS_STEPS = 100

Severity = Literal["error", "warning", "skipped", "ignored"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be said of a file, or of the data set as a whole.

    An `error` makes the set invalid. What is `skipped` cannot be used and is left out, as the set's owner asked; what
    is `ignored` was never meant to be used.
    """

    path: str
    code: str
    message: str
    severity: Severity


def as_findings(refusals: Iterable[Refusal], severity: Severity) -> list[Finding]:
    """Findings, with what follows from them."""
    return [Finding(refusal.path, refusal.code, refusal.message, severity) for refusal in refusals]


def few_images(count: int, name: str) -> list[Finding]:
    """A warning for a set of which figures will mean little."""
    if not 0 < count < FEW_IMAGES:
        return []
    message = (
        f"{count} images, of which a share is held out to judge by: FID and KID of so few mean little, and precision, "
        f"recall, density and coverage have no value below {FEW_IMAGES} images on each side"
    )
    return [Finding(name, "few_images", message, "warning")]


def similar_names(names: Sequence[str]) -> list[Finding]:
    """A warning for classes whose names differ in letter case, spaces or Unicode form alone."""
    first: dict[str, str] = {}
    found = []
    for name in names:
        key = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        before = first.setdefault(key, name)
        if before != name:
            message = f"it is another class than {before!r}: names differ by letter case and spaces too"
            found.append(Finding(name, "similar_class_names", message, "warning"))
    return found


def progress_of(hooks: Hooks) -> Callable[[int, int], None]:
    """`on_file` that tells `hooks` a hundred times in all.

    It raises `TaskError` `stopped` where a stop was requested.
    """

    def on_file(done: int, total: int) -> None:
        if done == total or done % max(1, total // _PROGRESS_STEPS) == 0:
            hooks.emit(ProgressEvent(phase="validating", done=done, total=total))
            if hooks.stop_requested():
                raise TaskError("stopped", "validation was stopped")

    return on_file


def write_report(report: dict[str, Any], items: Iterable[dict[str, Any]], out: Path, hooks: Hooks) -> None:
    """Write `report.json` and `items.jsonl` into `out` and announce them."""
    out.mkdir(parents=True, exist_ok=True)
    write_durably(out / ITEMS_FILE, (json.dumps(item, ensure_ascii=False).encode() + b"\n" for item in items))
    write_durably(out / REPORT_FILE, json.dumps(report, ensure_ascii=False, indent=2).encode() + b"\n")
    hooks.emit(ArtifactEvent(kind="items", file=file_info(out / ITEMS_FILE, out)))
    hooks.emit(ArtifactEvent(kind="validation_report", file=file_info(out / REPORT_FILE, out)))
