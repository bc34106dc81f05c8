"""Validating an uploaded data set: every bad file is named, every entry is accounted for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from difftune_core.data.archive import Limits, open_archive
from difftune_core.data.dataset import FoundImage, Scan, content_digest, scan
from difftune_core.files import sha256_file, write_durably
from difftune_core.hooks import ArtifactEvent, FileInfo, Hooks, PhaseEvent, ProgressEvent, TaskError

REPORT_FILE = "report.json"
ITEMS_FILE = "items.jsonl"
FORM = "class_folders"
MIN_IMAGES_PER_CLASS = 2
_PROGRESS_STEPS = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a file, or with the data set as a whole."""

    path: str
    code: str
    message: str
    severity: Literal["error", "warning"]


@dataclass(frozen=True)
class ValidationReport:
    """`report.json`. `accepted + rejected + ignored = entries`; any error makes `ok` false."""

    ok: bool
    form: str
    """`class_folders`, which tells this report from that of captioned images."""
    num_items: int
    class_names: list[str]
    class_counts: dict[str, int]
    entries: int
    accepted: int
    rejected: int
    ignored: int
    errors: list[Finding]
    warnings: list[Finding]
    digest: str | None
    """Of the accepted images' classes and contents; null where there are none."""


def validate(path: Path, out: Path, hooks: Hooks, limits: Limits | None = None) -> None:
    """Judge the archive or folder at `path`; write `report.json` and `items.jsonl` into `out`.

    A bad data set is a result, not a failure: nothing is raised for it.

    Raises:
        TaskError: `stopped`, when the caller asked to stop.
    """
    hooks.emit(PhaseEvent(phase="validating"))
    try:
        with open_archive(path, limits) as archive:
            result = scan(archive, decode=True, on_file=progress_of(hooks))
            report = _report(result, archive.entries, path.name)
    except TaskError as error:
        if error.code == "stopped":
            raise
        result = Scan([], [], 0)
        report = _unreadable(error, path.name)
    out.mkdir(parents=True, exist_ok=True)
    write_durably(out / ITEMS_FILE, _items(result))
    write_durably(out / REPORT_FILE, json.dumps(asdict(report), ensure_ascii=False, indent=2).encode() + b"\n")
    hooks.emit(ArtifactEvent(kind="items", file=file_info(out, ITEMS_FILE)))
    hooks.emit(ArtifactEvent(kind="validation_report", file=file_info(out, REPORT_FILE)))


def _report(result: Scan, entries: int, name: str) -> ValidationReport:
    counts = Counter(image.class_name for image in result.found)
    errors = [Finding(refusal.path, refusal.code, refusal.message, "error") for refusal in result.refused]
    errors += _small_classes(counts)
    if not result.found:
        errors.append(Finding(name, "no_images", "there is no image that can be used", "error"))
    pairs = ((image.class_name, image.sha256) for image in result.found)
    return ValidationReport(
        ok=not errors,
        form=FORM,
        num_items=len(result.found),
        class_names=list(result.class_names),
        class_counts={name: counts[name] for name in result.class_names},
        entries=entries,
        accepted=len(result.found),
        rejected=len(result.refused),
        ignored=result.ignored,
        errors=errors,
        warnings=_duplicates(result.found),
        digest=content_digest(pairs) if result.found else None,
    )


def _unreadable(error: TaskError, name: str) -> ValidationReport:
    finding = Finding(error.param or name, error.code, str(error), "error")
    return ValidationReport(
        ok=False,
        form=FORM,
        num_items=0,
        class_names=[],
        class_counts={},
        entries=0,
        accepted=0,
        rejected=0,
        ignored=0,
        errors=[finding],
        warnings=[],
        digest=None,
    )


def _small_classes(counts: Counter[str]) -> list[Finding]:
    message = "the class has {} usable image; at least {} are needed"
    return [
        Finding(name, "class_too_small", message.format(count, MIN_IMAGES_PER_CLASS), "error")
        for name, count in sorted(counts.items())
        if count < MIN_IMAGES_PER_CLASS
    ]


def _duplicates(found: list[FoundImage]) -> list[Finding]:
    """Images with the same bytes as an earlier one; worse where their classes differ."""
    first: dict[str, FoundImage] = {}
    findings = []
    for image in found:
        before = first.setdefault(image.sha256, image)
        if before is image:
            continue
        if before.class_name == image.class_name:
            finding = Finding(image.path, "duplicate_image", f"the same content as {before.path}", "warning")
        else:
            text = f"the same content as {before.path}, but in another class"
            finding = Finding(image.path, "conflicting_label", text, "warning")
        findings.append(finding)
    return findings


def _items(result: Scan) -> bytes:
    """One JSON object a line: the accepted images with their labels, sorted by path."""
    labels = {name: label for label, name in enumerate(result.class_names)}
    lines = (json.dumps({**asdict(i), "label": labels[i.class_name]}, ensure_ascii=False) for i in result.found)
    return "".join(f"{line}\n" for line in lines).encode()


def progress_of(hooks: Hooks) -> Callable[[int, int], None]:
    """`on_file` that tells `hooks` a hundred times in all.

    It raises `TaskError` `stopped` where the caller asked to stop.
    """

    def on_file(done: int, total: int) -> None:
        if done == total or done % max(1, total // _PROGRESS_STEPS) == 0:
            hooks.emit(ProgressEvent(phase="validating", done=done, total=total))
            if hooks.stop_requested():
                raise TaskError("stopped", "validation was stopped")

    return on_file


def file_info(out: Path, name: str) -> FileInfo:
    """The finished file `name` in `out`."""
    path = out / name
    return FileInfo(path=name, bytes=path.stat().st_size, sha256=sha256_file(path))
